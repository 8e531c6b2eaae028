"""A dataset that is not there is refused first of all: nothing is loaded, downloaded or written for it."""

import json
import subprocess
import sys

import pytest

from segtune.cli.main import main
from segtune.config.compose import compose
from segtune.data.source.places import check_place
from segtune.errors import ConfigError, DataError
from tests.conftest import TINY

OWN = [w for w in TINY if not w.startswith("dataset")]


@pytest.mark.parametrize(
    ("there", "given", "hint"),
    [
        ("my roads", "my road", "Did you mean '{}/my roads'?"),
        ("Roads", "roads", "Did you mean '{}/Roads'?"),
        ("data/roads", "dat/roads", "Did you mean '{}/data/roads'?"),
        ("data/roads", "data/xyz", "'{}/data' does, and holds no 'xyz'."),
    ],
)
@pytest.mark.parametrize("dataset", ["folder", "coco"])
def test_a_mistyped_root_names_the_nearest_folder(tmp_path, dataset, there, given, hint):
    (tmp_path / there).mkdir(parents=True)
    config = compose(
        [f"dataset={dataset}", f"dataset.root={given}", "dataset.classes=[a,b]"]
    ).config.dataset
    with pytest.raises(DataError) as told:
        check_place(config)
    assert f"dataset.root '{tmp_path / given}' does not exist" in str(told.value)
    assert hint.format(tmp_path) in str(told.value)


@pytest.mark.parametrize("verb", ["train", "sweep", "check"])
def test_it_is_refused_before_weights_data_or_a_store_are_touched(
    tmp_path, verb, capsys, monkeypatch
):
    def untouched(*_, **__):
        raise AssertionError("too early")

    (tmp_path / "my roads").mkdir()
    (tmp_path / "s.yaml").write_text(
        json.dumps({"n_trials": 1, "workers": "auto", "search": {"hp.width": [16]}})
    )
    for place in (
        "segtune.tracking.store.open_store",
        "segtune.training.fit.prepare",
        "segtune.training.time_budget.best_workers",
    ):
        monkeypatch.setattr(place, untouched)
    name = ["s.yaml"] if verb == "sweep" else []
    words = ["dataset=folder", *(OWN if verb != "check" else [])]
    assert main([verb, *name, *words, "dataset.root=my rods"]) == 3
    assert "Did you mean" in capsys.readouterr().err
    assert main([verb, *name, *words, "dataset.root=my roads"]) == 2
    assert "names no classes" in capsys.readouterr().err
    assert not (tmp_path / "mlruns").exists()


def test_a_table_or_a_file_of_classes_is_enough(tmp_path):
    words = ["dataset=folder", f"dataset.root={tmp_path}"]
    with pytest.raises(ConfigError, match="names no classes"):
        check_place(compose(words).config.dataset)
    check_place(compose([*words, "dataset.classes=[a,b]"]).config.dataset)
    (tmp_path / "classes.yaml").write_text("classes: [a, b]\n")
    check_place(compose(words).config.dataset)


def test_the_check_loads_no_torch():
    code = "import sys, segtune.data.source.places; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
