"""A recorded config means the same as the composed one: from any folder, and for version 0.1.0."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from segtune.config.compose import compose
from segtune.config.conf_files import read_yaml
from segtune.config.keys import validate
from segtune.config.schema import TrackingConfig
from segtune.data.sources import open_source, resolved
from segtune.errors import ConfigError
from segtune.tracking.recorded import changed_dataset, dataset_of, recorded_config
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.store import open_store
from tests.conftest import write_pairs
from tests.data.annotation_sets import write_coco

BESIDE = {"classes": ["road", "car"], "ignore": [255, 2], "groups": "^."}


def own_pairs(root: Path, table: dict | None = None) -> Path:
    """Write pairs with the ids 0, 1 and 2, and the table as classes.yaml."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        images = rng.integers(0, 255, (2, 32, 32, 3), np.uint8)
        masks = rng.integers(0, 3, (2, 32, 32)).astype(np.uint8)
        write_pairs(root, split, list(zip(images, masks, strict=True)))
    if table:
        (root / "classes.yaml").write_text(yaml.safe_dump(table))
    return root


def imported(folder: Path) -> list[str]:
    own_pairs(folder / "my roads", BESIDE)
    return ["dataset=folder", "dataset.root=my roads"]


def classes_given_too(folder: Path) -> list[str]:
    return [*imported(folder), "dataset.classes=[street,auto]"]


def all_given(folder: Path) -> list[str]:
    return [
        *imported(folder),
        "dataset.ignore=[255]",
        "dataset.label_map={2: 255}",
        "dataset.groups=null",
    ]


def fixed(folder: Path) -> list[str]:
    own_pairs(folder / "my roads", {"classes": ["road", "car", "boat"]})
    fixes = {
        "label_map": {2: 255},
        "classes": ["road", "car"],
        "quarantine": {"train": ["images/train/0.png"]},
    }
    (folder / "fixes.yaml").write_text(yaml.safe_dump(fixes))
    return ["dataset=folder", "dataset.root=my roads", "dataset.fixes=fixes.yaml"]


def annotated(folder: Path) -> list[str]:
    write_coco(folder / "my roads")
    return ["dataset=coco", "dataset.root=my roads", "dataset.splits.val=0.5"]


def annotated_in_another_order(folder: Path) -> list[str]:
    return [*annotated(folder), "dataset.classes=[tree,background,car]"]


def drawn(folder: Path) -> list[str]:
    return ["dataset=street", "dataset.street={width:96,height:64,train:2,val:1,test:1,clips:0}"]


KINDS = [
    imported,
    classes_given_too,
    all_given,
    fixed,
    annotated,
    annotated_in_another_order,
    drawn,
]
# 0.1.0 recorded neither an explicit null nor the content of the fixes
OLD = [k for k in KINDS if k not in (all_given, fixed)]


def meaning(source):
    config = source.config
    return (
        source.name,
        source.classes,
        config.finer,
        config.groups,
        config.label_map,
        source.fingerprint(),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_dataset_is_the_composed_one_from_any_folder(tmp_path, monkeypatch, kind):
    config = compose(kind(tmp_path)).config
    source = open_source(config.dataset)
    recorded = config.model_copy(update={"dataset": resolved(config.dataset, source)}).model_dump(
        mode="json"
    )
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(recorded, sort_keys=False))
    for name in ("fixes.yaml", "my roads/classes.yaml"):
        (tmp_path / name).unlink(missing_ok=True)
    monkeypatch.chdir("/")
    again = validate(read_yaml(tmp_path / "config.yaml")).dataset
    assert meaning(open_source(again)) == meaning(source)
    once_more = resolved(again, open_source(again))
    assert once_more.model_dump() == again.model_dump()


@pytest.mark.parametrize("kind", OLD)
def test_a_config_of_version_0_1_0_keeps_its_meaning(tmp_path, kind):
    config = compose(kind(tmp_path)).config
    old = config.model_dump(mode="json")
    del old["dataset"]["table"]
    assert meaning(open_source(validate(old).dataset)) == meaning(open_source(config.dataset))


def test_a_relative_root_of_version_0_1_0_is_found_beside_the_store(tmp_path, monkeypatch):
    store = open_store(TrackingConfig(root=str(tmp_path / "mlruns")))
    run = RunWriter.create(store, "r", {}, {})
    run.data(
        "config.yaml", compose([*imported(tmp_path), "resume=x"]).config.model_dump(mode="json")
    )
    monkeypatch.chdir("/")
    config = recorded_config(store, run.run_id)
    assert config.dataset.root == str(tmp_path / "my roads") and config.resume is None
    assert config.tracking.root == str(tmp_path / "mlruns")


def test_a_command_uses_the_runs_dataset_with_overrides_or_another_dataset(tmp_path):
    store = open_store(TrackingConfig())
    config = compose(imported(tmp_path)).config
    run = RunWriter.create(store, "r", {}, {})
    dataset = resolved(config.dataset, open_source(config.dataset))
    run.data("config.yaml", config.model_copy(update={"dataset": dataset}).model_dump(mode="json"))

    def chosen(*words):
        return open_source(dataset_of(compose(words), store, run.run_id, run.run_id))

    assert meaning(chosen()) == meaning(open_source(config.dataset))
    assert chosen("dataset.tolerance=0.5", "dataset.groups=^..").config.groups == "^.."
    assert chosen("dataset.classes=[way,car]").classes.names == ("way", "car")
    other = own_pairs(tmp_path / "elsewhere")
    assert chosen(f"dataset.root={other}").fingerprint() == chosen().fingerprint()
    assert (
        chosen("dataset=street", "dataset.street.train=1", "dataset.street.val=1").name == "street"
    )
    with pytest.raises(ConfigError, match=r"dataset: tolerence: no such key.*tolerance"):
        changed_dataset(dataset, ["dataset.tolerence=1"])
    with pytest.raises(ConfigError, match="'folder/of/mine' belongs to no run.*dataset=NAME"):
        dataset_of(compose(), store, None, "folder/of/mine")
