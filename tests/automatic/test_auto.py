"""`segtune auto`: from images to a champion, interrupted and continued; refusals of bad input."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

import segtune
from segtune.api.auto import _title, _with_imported
from segtune.api.experiments import open_root
from segtune.automatic import job
from segtune.automatic.facts import examine_dataset, facts_of
from segtune.automatic.repair import usable
from segtune.automatic.state import AutoState
from segtune.config.compose import compose
from segtune.data.sources import open_source
from segtune.errors import ConfigError, DataError, Interrupted
from segtune.runtime.log import silent
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import load_spec
from segtune.tracking.runs import get_run, search_runs, sweep_runs
from tests.conftest import OPEN_GATE, write_pairs

SCENES = [
    "dataset=street",
    "dataset.street={width:96,height:64,train:12,val:4,test:3,clips:0,clip_frames:1,seed:7}",
]


def folder_of(root, count, split="train", values=2):
    """Images of a dark and a bright half, and their masks."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(count):
        mask = np.zeros((48, 64), np.uint8)
        mask[:, int(rng.integers(10, 50)) :] = 1
        mask %= values
        image = np.repeat((mask * 120 + 60)[..., None], 3, axis=2) + rng.integers(
            0, 20, (48, 64, 3)
        ).astype(np.uint8)
        pairs.append((image.astype(np.uint8), mask))
    write_pairs(root, split, pairs)
    return ["dataset=folder", f"dataset.root={root}", "dataset.classes=[dark,bright]"]


@pytest.mark.parametrize(
    ("count", "values", "found"),
    [(1, 2, "has 1 train images"), (8, 1, "show dark alone"), (0, 2, "split|image")],
    ids=["one_image", "one_class", "no_image"],
)
def test_data_that_teach_nothing_are_refused(tmp_path, count, values, found):
    words = folder_of(tmp_path / "d", count, values=values)
    with pytest.raises(DataError, match=found):
        segtune.auto(*words, minutes=5, say=silent)


@pytest.mark.parametrize("minutes", [0, -3])
def test_minutes_must_be_positive(minutes):
    with pytest.raises(ConfigError, match="above 0"):
        segtune.auto("dataset=street", minutes=minutes, say=silent)


@pytest.mark.parametrize("key", ["hp.num_epochs=20", "trainer.minutes=3"])
def test_the_length_of_a_run_is_not_to_be_given(key):
    with pytest.raises(ConfigError, match="leave it out"):
        segtune.auto("dataset=street", key, minutes=5, say=silent)


def test_an_import_is_used_again_for_the_same_files_and_words_alone(tmp_path, monkeypatch):
    def imported(source, target, *words, **options):
        target.mkdir(parents=True)
        return SimpleNamespace(lines=lambda: [f"imported {source}"])

    monkeypatch.setattr("segtune.api.importing.import_dataset", imported)
    for place in ("a", "b"):
        (tmp_path / place / "roads").mkdir(parents=True)
        (tmp_path / place / "roads" / "1.png").write_bytes(b"1")
    store = f"tracking.root={tmp_path / 'a' / 'roads' / 'mlruns'}"
    said: list[str] = []

    def words(place, *more):
        return _with_imported(tmp_path / place / "roads", [store, *more], said.append, None)

    first = words("a")
    assert first == words("a") and "using the import" in said[-1]
    assert first[-1].endswith("/roads")
    changed = words("a", "dataset.reduce_zero_label=true")
    assert not any("reduce_zero_label" in text for text in changed)
    (tmp_path / "a" / "roads" / "2.png").write_bytes(b"2")
    assert len({text[-1] for text in (first, changed, words("b"), words("a"))}) == 4


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 101])
def test_a_name_that_is_no_folder_is_refused_before_anything_is_written(name, tmp_path):
    words = folder_of(tmp_path / "d", 2)
    with pytest.raises(ConfigError, match="name="):
        segtune.auto(*words, minutes=5, name=name or "-", say=silent)
    assert not list(tmp_path.glob("mlruns*"))


def test_a_dataset_of_one_split_gets_val_and_faulty_files_are_repaired(tmp_path):
    words = folder_of(tmp_path / "d", 10)
    (tmp_path / "d/images/train/3.png").write_bytes(b"no image")
    dataset = usable([*words, "dataset.splits.val=0.3"], tmp_path, silent)
    assert not dataset.audit.refused and len(dataset.audit.facts) == 9
    assert [decision.what for decision in dataset.decisions] == ["repairs"]
    divided = usable(folder_of(tmp_path / "e", 10), tmp_path, silent)
    assert divided.words[-1] == "dataset.splits.val=0.2"
    facts = facts_of(divided.audit)
    assert facts.images == {"train": 8, "val": 2} and facts.size == (48, 64)
    assert facts.shown.keys() == {"dark", "bright"} and facts.halves < 0.05


def test_facts_of_an_evenly_chosen_part_of_a_large_set(tmp_path, monkeypatch):
    monkeypatch.setattr("segtune.automatic.facts._MOST_EXAMINED", 4)
    folder_of(tmp_path / "d", 6)
    words, said = folder_of(tmp_path / "d", 6, split="val"), []
    source = open_source(compose(words).config.dataset)
    found = examine_dataset(source, [48], said.append)
    assert len(found.facts) == 4 and "4 of 12 pairs" in said[0]
    assert facts_of(found).images == {"train": 6, "val": 6}


def test_another_call_of_the_same_name_is_refused_and_time_adds_up(tmp_path):
    state = AutoState(tmp_path, ["dataset=street"], 5.0)
    state.reserved = 7.0
    state._before = 40.0
    state.save()
    again = AutoState(tmp_path, ["dataset=street"], 5.0)
    assert again.spent >= 40.0 and again.reserved == 7.0
    for words, minutes in ((["dataset=street"], 6.0), (["dataset=camvid"], 5.0)):
        with pytest.raises(ConfigError, match="name=NAME"):
            AutoState(tmp_path, words, minutes)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        AutoState(tmp_path, ["dataset=street"], 5.0)


def test_names_come_from_the_dataset_or_its_folder():
    assert _title("street", None) == "street"
    assert _title("folder", "/data/my roads") == "my_roads" and _title("coco", "/a/.b") == "b"


@pytest.mark.slow
@pytest.mark.ci
def test_auto_makes_a_champion_and_goes_on_after_an_interruption(tmp_path, monkeypatch):
    """Interrupted after the search: the same call trains nothing of it again."""
    said: list[str] = []
    words = [*SCENES, "template=swift", "hp.width=16", "trainer=cpu", "tracking.root=store"]

    def auto():
        return segtune.auto(*words, *OPEN_GATE[1:], minutes=0.8, say=said.append)

    plain = job._finish

    def stopped(*args):
        raise Interrupted("stopped")

    monkeypatch.setattr(job, "_finish", stopped)
    with pytest.raises(Interrupted, match="segtune auto"):
        auto()
    monkeypatch.setattr(job, "_finish", plain)
    store = open_root("store")
    trials = [run.id for run in sweep_runs(store, "auto-street")]
    assert trials
    result = auto()
    assert [run.id for run in sweep_runs(store, "auto-street")] == trials
    assert result.chosen.miou >= result.search.best.miou
    assert result.promotion.moved and result.promotion.split == "test"
    assert get_run(store, result.chosen.id).metrics["test/miou"] >= 0.0
    assert result.report.html.is_file() and json.dumps(result.to_json())
    again = auto()
    assert again.chosen.id == result.chosen.id and again.promotion.version == 1
    assert len(search_runs(store, {"segtune.kind": "run"})) == (result.final is not None)
    text = result.sweep_file.read_text()
    assert text.startswith("# Question: ") and "image size: shorter side 64 px" in text
    assert build_space(load_spec(str(result.sweep_file))).dimensions
    assert yaml.safe_load(text)["enqueue"][0]["template"] == "swift"
    assert any(line.startswith("time: ") for line in said)
