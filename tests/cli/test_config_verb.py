"""`segtune config` shows every key with its type, default, allowed values and meaning."""

import json

import pytest

from segtune.cli.main import main
from segtune.config.conf_files import members
from segtune.config.keys import GROUPS
from segtune.config.reference import settings
from segtune.config.schema import GateConfig, RunConfig
from segtune.inference.workflow.workflow import WorkflowConfig
from segtune.sweeping.spec import SweepSpec

MODELS = {"": RunConfig, "gate.": GateConfig, "sweep.": SweepSpec, "workflow.": WorkflowConfig}


def shown(capsys, *words):
    assert main(["config", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def leaves(model, prefix=""):
    """Every field of a model and of the models below it, found without `reference`."""
    for name, field in model.model_fields.items():
        below = [
            k
            for k in (field.annotation, *getattr(field.annotation, "__args__", ()))
            if hasattr(k, "model_fields")
        ]
        yield from leaves(below[0], f"{prefix}{name}.") if below else [f"{prefix}{name}"]


@pytest.mark.parametrize(("prefix", "model"), MODELS.items(), ids=[p or "run" for p in MODELS])
def test_every_setting_is_listed_with_its_meaning(prefix, model):
    rows = {s.key: s for s in settings(model, prefix)}
    assert set(rows) == set(leaves(model, prefix))
    assert not [key for key, s in rows.items() if not s.meaning or not s.type]


def test_a_key_of_any_section_can_be_asked_for(capsys):
    for prefix, model in MODELS.items():
        keys = [key for key in leaves(model, prefix) if key not in GROUPS]
        for key in keys[:: max(1, len(keys) // 4)]:
            assert [row["key"] for row in shown(capsys, key)["keys"]] == [key]


def test_all_groups_and_members_are_listed_with_what_they_are_for(capsys):
    assert shown(capsys)["groups"] == {g: members(g) for g in GROUPS}
    for group in (*GROUPS, "gate", "workflow"):
        purposes = shown(capsys, group)["members"]
        assert sorted(purposes) == members(group) and all(purposes.values())


def test_a_key_says_type_default_range_and_meaning(capsys):
    assert main(["config", "trainer.ema_decay"]) == 0
    text = capsys.readouterr().out
    assert "number or null (>= 0 and < 1), default null" in text and "moving average" in text
    row = shown(capsys, "hp.batch_size")["keys"][0]
    assert row["type"] == "int" and row["allowed"].startswith("1..")
    assert (
        shown(capsys, "loss.class_weights")["keys"][0]["allowed"]
        == "none, enet, inverse, effective"
    )


def test_the_schemas_accept_our_own_files_and_refuse_a_typo(tmp_path, capsys):
    import jsonschema
    import yaml

    from segtune.config.conf_folders import shipped

    assert main(["config", "--schema", "output=schemas"]) == 0
    schemas = {
        p.name.split(".")[0]: json.loads(p.read_text())
        for p in (tmp_path / "schemas").glob("*.json")
    }
    assert set(schemas) == {"sweep", "gate", "workflow", *GROUPS} - {"kind"}
    validators = {}
    for kind, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        validators[kind] = jsonschema.Draft202012Validator(schema)
    for path in [*shipped("sweeps").glob("*.yaml"), *shipped("conf").glob("*/*.yaml")]:
        kind = "sweep" if path.parent.name == "sweeps" else path.parent.name
        if kind in schemas:
            validators[kind].validate(yaml.safe_load(path.read_text()))
    with pytest.raises(jsonschema.ValidationError, match="trails"):
        jsonschema.validate({"trails": 3}, schemas["sweep"])
    assert schemas["sweep"]["properties"]["n_trials"]["description"]
