"""Printed commands: a shell and the command line read back the same values."""

import os
import shlex
import subprocess
import sys

import pytest

from segtune.cli.main import main
from segtune.cli.parsing import parse
from segtune.cli.verbs import VERBS
from segtune.config.commands import (
    absolute_words,
    command,
    dataset_words,
    program,
    tracking_words,
    word,
)
from segtune.config.compose import compose
from segtune.config.dataset_schema import DatasetConfig
from segtune.config.schema import TrackingConfig

PLACES = [
    "roads",
    "my roads",
    "it's",
    "a[1]",
    "{b}",
    "x,y",
    "é 数据",
    "back\\slash",
    "1e3",
    "null",
    "a=b",
    "$HOME",
]


def words_of(text):
    """The words behind the program, as a shell reads them."""
    return shlex.split(text)[len(program()) :]


@pytest.mark.parametrize("place", PLACES)
def test_any_folder_is_read_back_from_a_printed_command(tmp_path, place):
    dataset = DatasetConfig(
        name="folder", source="folder", root=str(tmp_path / place), classes=["road", "a car"]
    )
    tracking = TrackingConfig(
        root=str(tmp_path / place), uri="http://127.0.0.1:5000", experiment="two words"
    )
    verb, *words = words_of(command("train", dataset=dataset, tracking=tracking))
    config = compose(words).config
    assert verb == "train" and config.tracking == tracking
    assert config.dataset.model_dump() == dataset.model_dump()


@pytest.mark.parametrize("place", PLACES)
def test_recorded_words_mean_the_same_from_another_folder(tmp_path, monkeypatch, place):
    paths = {
        "dataset.root": place,
        "tracking.root": f"{place}/runs",
        "hp.pretrained_weights": f"../{place}.pt",
    }
    words = ["dataset=folder", "dataset.classes=[a,b]", *(word(k, v) for k, v in paths.items())]
    recorded = absolute_words(words)
    original = compose(words).config
    monkeypatch.chdir("/")
    elsewhere = compose(recorded).config
    for before, now in (
        (original.dataset.root, elsewhere.dataset.root),
        (original.tracking.root, elsewhere.tracking.root),
        (original.hp["pretrained_weights"], elsewhere.hp["pretrained_weights"]),
    ):
        assert os.path.normpath(tmp_path / before) == os.path.normpath(now)


@pytest.mark.parametrize(
    "text",
    [
        "seed=3",
        "dataset.root=/data",
        "dataset.root=null",
        "dataset.root=${oc.env:HOME}",
        "dataset.fixes={unrotated:[a]}",
        "hp.pretrained_weights=imagenet",
        "hp.pretrained_weights=runs:/abcd",
        "dataset.images=pictures",
        "~dataset.root",
    ],
)
def test_words_without_a_relative_path_are_recorded_as_given(text):
    assert absolute_words([text]) == [text]


def test_a_dataset_is_named_by_the_words_that_chose_it():
    words = ["dataset=folder", "dataset.root=roads", "dataset.classes=[a,b]", "dataset.tolerance=0"]
    config = compose(["seed=3", *words]).config
    assert dataset_words(config.dataset) == words
    assert dataset_words(compose(["seed=3"]).config.dataset) == ["dataset=street"]


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_format": "rgb", "label_map": {3: 255}},
        {"splits": {"val": 0.3, "test": 0.1}, "groups": "^[^_]+"},
        {"source": "annotations", "annotations": {"format": "coco"}, "name": "coco"},
        {"images": "pictures/{split}", "ignore": [255, 2], "tolerance": 0.0},
    ],
)
def test_a_recorded_dataset_is_named_by_words_of_the_same_meaning(tmp_path, changes):
    data = {
        "name": "folder",
        "source": "folder",
        "root": str(tmp_path / "my roads"),
        "classes": ["a", "b"],
        **changes,
    }
    recorded = DatasetConfig.model_validate(data)
    assert compose(dataset_words(recorded)).config.dataset.model_dump() == recorded.model_dump()


@pytest.mark.parametrize(
    "words",
    [
        [
            "dataset=coco",
            "dataset.root=/d",
            "dataset.annotations.format=auto",
            "dataset.annotations.order=file",
        ],
        [
            "dataset=coco",
            "dataset.root=/d",
            "dataset.annotations.format=voc",
            "dataset.splits.val=0.3",
        ],
        [
            "dataset=labelme",
            "dataset.root=/d",
            "dataset.annotations.crowd=ignore",
            "dataset.name=mine",
        ],
        [
            "dataset=street",
            "dataset.street.train=10",
            "dataset.finer=null",
            "dataset.licence='by me: 2024'",
        ],
        [
            "dataset=camvid",
            "dataset.splits.folds=5",
            "dataset.splits.fold=2",
            "dataset.ignore=[255]",
        ],
        ["dataset=camvid", "dataset.name=renamed", "dataset.groups=null", "dataset.tolerance=0"],
    ],
)
def test_a_recorded_dataset_of_any_member_keeps_the_settings_that_were_changed(words):
    recorded = DatasetConfig.model_validate(compose(words).config.dataset.model_dump())
    printed = words_of(command("check", dataset=recorded))[1:]
    assert compose(printed).config.dataset.model_dump() == recorded.model_dump()
    assert len(printed) <= len(words) + 1  # the member's own values are not named


def test_the_default_store_is_not_named_from_its_own_folder_and_is_from_another(
    tmp_path, monkeypatch
):
    root = str(tmp_path / "mlruns")
    assert tracking_words(TrackingConfig(root=root)) == []
    monkeypatch.chdir("/")
    assert tracking_words(TrackingConfig(root=root)) == [f"tracking.root={root}"]


STORELESS = ("templates", "import", "rollback", "predict", "autolabel", "config", "completion")
NEEDED = {"promote": ["model=m"], "auto": ["minutes=5"]}


@pytest.mark.parametrize("verb", [v for v in VERBS if v not in STORELESS])
def test_every_verb_takes_the_words_that_lead_to_a_store(verb):
    tracking = TrackingConfig(root="/elsewhere", uri="http://127.0.0.1:5000", experiment="mine")
    printed = words_of(command(verb, *NEEDED.get(verb, []), tracking=tracking))
    parse(verb, VERBS[verb], printed[1:])
    assert ("tracking.experiment=mine" in printed) == (verb not in ("status", "stop", "retry"))


def test_the_program_is_printed_as_it_was_called(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(tmp_path / "t.py")])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program() == [sys.executable, "-m", "segtune"]
    script = tmp_path / "bin" / "segtune"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.argv", [os.path.relpath(script)])
    assert program() == ["bin/segtune"]
    monkeypatch.setenv("PATH", str(script.parent))
    assert program() == ["segtune"]


def test_a_command_of_python_m_segtune_runs_as_printed(capsys):
    first = [sys.executable, "-m", "segtune", "train", "seed=1,2"]
    result = subprocess.run(first, capture_output=True, text=True)
    printed = result.stderr.split("To search: ")[1].splitlines()[0]
    assert printed == shlex.join([sys.executable, "-m", "segtune", "sweep", "NAME"])
    assert main(["sweep", "NAME"]) == 2  # the printed words, without a second process
    assert "sweep 'NAME' is not in sweeps/" in capsys.readouterr().err


def test_stop_and_retry_print_how_the_sweep_was_started(tmp_path, capsys):
    from segtune.sweeping.engine.study import SweepStudy
    from tests.sweeping.test_study import make_spec

    study = SweepStudy(tmp_path / "mlruns" / "sweeps" / "t", make_spec(n_trials=4))
    study.begin(["sweeps/my sweep.yaml", "dataset=folder", "dataset.root='my roads'"])
    for verb in ("stop", "retry"):
        assert main([verb, "t"]) == 0
        printed = capsys.readouterr().out.splitlines()[-1]
        printed = printed[printed.index(shlex.quote(program()[0])) :]
        assert words_of(printed) == [
            "sweep",
            "sweeps/my sweep.yaml",
            "dataset=folder",
            "dataset.root='my roads'",
        ]
