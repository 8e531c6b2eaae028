"""Composition: precedence, validation before anything starts, and where each value came from."""

import time
from pathlib import Path

import pytest

from segtune.config.compose import compose
from segtune.config.conf_files import read_yaml
from segtune.config.conf_folders import shipped
from segtune.config.keys import validate
from segtune.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("los=ce", "did you mean 'loss'"),
        ("loss=cee", "did you mean 'ce'"),
        ("template=segformr", "did you mean 'segformer'"),
        ("trainer.thread=3", "'trainer.threads'"),
        ("hp.batchsize=3", "did you mean 'batch_size'"),
        ("optimizer.weight_dcay=0", "weight_decay"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name_in_under_two_seconds(override, hint):
    started = time.process_time()
    with pytest.raises(ConfigError, match=hint):
        compose([override])
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.threads=many", "trainer.threads='many'"),
        (
            "trainer.workers=many",
            r"^trainer.workers='many': Input should be 'auto', or a valid integer",
        ),
        ("trainer.accumulate=0", r"^trainer.accumulate=0: Input should be 'auto', or greater than"),
        ("trainer.threads=0", "greater than or equal to 1"),
        ("loss.stride=2", "1 or 4"),
        ("scheduler.warmup=1.5", "less than or equal to 1"),
        ("loss.terms={hinge:1}", "known: .*lovasz"),
        (
            "loss.points=64",
            "points=64 changes the masks term, and terms names cross_entropy, lovasz alone",
        ),
        ("hp.num_epochs=1,2", "segtune sweep"),
        ("two words", "not key=value"),
        ("", "not key=value"),
        ("=", "not key=value"),
        ("x", "not key=value"),
        ("a.b.c", "not key=value"),
        (5, "is no text"),
        ("tracking.root=", "at least 1 character"),
        ("dataset.root=", "at least 1 character"),
        ("dataset.root=\udcff", "is not valid UTF-8"),
        ("dataset.classes=[it's]", r"dataset.classes=\['a b',c\]"),
        ("optimizer.weight_decay=it's", r"optimizer.weight_decay='it\\'s'"),
        ("hydra.run.dir=x", "tracking.root=DIR"),
        ("loss=ce,dice", "segtune sweep"),
        ("loss=../loss/ce", "no such loss"),
        ("~loss", "no such loss"),
        ("lr=1", "here it is hp.per_item_lrate"),
        ("hp.lr=1", "here it is hp.per_item_lrate"),
        ("trainer.max_epochs=1", "here it is hp.num_epochs"),
        ("model.backbone=x", "here it is hp.encoder"),
        (
            "dataset.root=${oc.env:NO_SUCH}",
            "^dataset.root: Environment variable 'NO_SUCH' not found. Set it",
        ),
        (
            "hp.width=${oc.env:NO_SUCH}",
            "^hp.width: Environment variable 'NO_SUCH' not found. Set it",
        ),
        ("hp.width=${nowhere}", "^hp.width: .*nowhere"),
        ("dataset=folder", "dataset.root has no value"),
        ("seed=-1", "greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_the_allowed_values(override, message):
    with pytest.raises(ConfigError, match=message):
        compose([override])


def test_the_command_line_wins_over_a_recipe_and_a_recipe_over_the_template():
    assert compose(["template=swift"]).config.hp["num_epochs"] == 40
    assert compose(["template=swift", "hp=quick"]).config.hp["num_epochs"] == 12
    assert compose(["hp=quick", "hp.num_epochs=3"]).config.hp["num_epochs"] == 3
    assert compose(["template=swift"]).config.optimizer.name == "muon"
    assert compose(["template=swift", "optimizer=sgd"]).config.optimizer.name == "sgd"


def test_every_value_has_an_origin():
    origins = compose(["hp=quick", "seed=4"]).origins
    assert origins["seed"] == "command line"
    assert origins["hp.num_epochs"] == "hp/quick.yaml"
    assert origins["hp.width"] == "template swift"
    assert origins["loss.stride"] == "loss/ce_lovasz.yaml"
    assert origins["trainer.gradient_clip"] == "default"


def test_the_users_conf_extends_and_overrides_ours(tmp_path: Path):
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("terms: {dice: 2.0}\n")
    (tmp_path / "conf" / "loss" / "focal.yaml").write_text("terms: {focal: 3.0}\n")
    assert compose(["loss=mine"]).config.loss.terms == {"dice": 2.0}
    assert compose(["loss=focal"]).config.loss.terms == {"focal": 3.0}
    assert compose(["loss=ce"]).config.loss.terms == {"cross_entropy": 1.0}


def test_lr_is_batch_size_times_per_item_lrate():
    from segtune.training.components import RunComponents

    config = compose(["template=segformer", "hp.batch_size=4", "hp.per_item_lrate=1e-3"]).config
    components = RunComponents(config, *[None] * 8)
    assert components.lr == pytest.approx(4e-3)


@pytest.mark.parametrize("section", ["hp.num_epochs", "trainer.early_stopping"])
def test_environment_variables_reach_every_section(section, monkeypatch, tmp_path):
    monkeypatch.setenv("N", "7")
    group, key = section.split(".")
    config = compose([section + "=${oc.env:N}"]).config.model_dump()
    assert config[group][key] == 7
    (tmp_path / "conf" / group).mkdir(parents=True)
    (tmp_path / "conf" / group / "mine.yaml").write_text(key + ": ${oc.env:N}\n")
    assert compose([f"{group}=mine"]).config.model_dump()[group][key] == 7


def test_a_recorded_config_resolves_no_environment_variable(monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    data = compose().config.model_dump()
    data["tracking"]["experiment"] = "${oc.env:SECRET}"
    assert validate(data).tracking.experiment == "${oc.env:SECRET}"


def test_an_application_keeps_its_own_hydra(tmp_path):
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir, version
    from hydra.core.global_hydra import GlobalHydra

    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("terms: {dice: 2.0}\n")
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "config.yaml").write_text("defaults: [_self_]\nx: 1\n")
    with initialize_config_dir(str(tmp_path / "host"), version_base="1.2"):
        hydra, base = GlobalHydra.instance().hydra, version.getbase()
        assert compose(["loss=mine", "seed=11"]).config.loss.terms == {"dice": 2.0}
        assert GlobalHydra.instance().hydra is hydra and version.getbase() == base
        assert hydra_compose("config") == {"x": 1}
        search_path = hydra.config_loader.get_search_path().get_path()
        foreign = [p.path for p in search_path if "host" not in p.path and "hydra" not in p.path]
        assert not [path for path in foreign if "conf" in path]


FOREIGN = {
    "lightning-hydra-template": "defaults: [{data: mnist}, {model: mnist}]\ntask_name: train\n",
    "keys of its own": "model: {lr: 3}\n",
    "not all groups": "defaults: [{dataset: street}, {loss: ce}, _self_]\n",
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_the_config_of_another_project_is_named_with_the_way_out(text, tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"conf/config.yaml is read in place of.*SEGTUNE_CONF="):
        compose(["seed=1"])
    monkeypatch.setenv("SEGTUNE_CONF", "")
    assert compose(["seed=1"]).config.seed == 1


def test_a_copy_of_our_root_file_may_change_defaults(tmp_path):
    (tmp_path / "conf").mkdir()
    text = (shipped("conf") / "config.yaml").read_text().replace("loss: ce", "loss: dice")
    (tmp_path / "conf" / "config.yaml").write_text(text)
    assert compose(["template=unet"]).config.loss.terms == {"dice": 1.0}


@pytest.mark.parametrize("path", ["nowhere", "file", "file/below"])
def test_a_conf_folder_that_is_none_is_refused(path, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEGTUNE_CONF", path)
    with pytest.raises(
        ConfigError, match=f"^SEGTUNE_CONF={path} (does not exist|is a file); .*unset it"
    ):
        compose()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"terms: {dice: 2.0", "loss/mine.yaml"),
        (b"\xff\xfe", "mine.yaml|conf"),
        (b"\xef\xbb\xbfterms: {dice: 2.0}", "mine.yaml begins with a byte order mark"),
        (b"- a\n", r"loss=\['a'\]"),
        (b"terms: ${nowhere.at}", "nowhere"),
        (b"defaults: [other]\n", "other"),
        (b"defaults: [{/dataset: nowhere}]\n", "nowhere"),
    ],
)
def test_a_broken_file_of_the_user_is_named(content, message, tmp_path):
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        compose(["loss=mine"])


@pytest.mark.parametrize(
    "value",
    ["${oc.env:AWS_SECRET_ACCESS_KEY}", "x/${oc.env:MY_TOKEN,none}", "${oc.env:${name}}"],
)
@pytest.mark.parametrize("group", ["tracking", "dataset"])
def test_a_conf_folder_reads_no_secret_of_the_environment(group, value, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    key = {"tracking": "experiment", "dataset": "name"}[group]
    (tmp_path / "conf" / group).mkdir(parents=True)
    (tmp_path / "conf" / group / "mine.yaml").write_text(f"{key}: {value}\n")
    with pytest.raises(ConfigError, match=f"{group}.{key} .* environment variable") as error:
        compose([f"{group}=mine"])
    assert "hidden" not in str(error.value)


BOMB = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}' if n else 'x'] * 9)}]\n" for n in range(9))


@pytest.mark.parametrize("text", [BOMB, "name: &a [*a]\n", "name: &a {b: *a}\n", "[" * 5000])
def test_yaml_that_stands_for_billions_of_values_is_refused(text, tmp_path):
    path = tmp_path / "conf" / "dataset" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    for read in (lambda: read_yaml(path), lambda: compose(["dataset=mine"])):
        with pytest.raises(ConfigError, match=r"more than a million values|recursion"):
            read()


def test_a_conf_folder_adds_no_package_to_the_search_path(tmp_path):
    (tmp_path / "conf").mkdir()
    root = (shipped("conf") / "config.yaml").read_text()
    text = root + "\nhydra:\n  searchpath: ['pkg://evil']\n"
    (tmp_path / "conf" / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"hydra\.searchpath is not allowed"):
        compose()
