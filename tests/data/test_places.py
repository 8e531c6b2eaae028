"""A dataset that does not exist is refused before anything is loaded, downloaded or written."""

import json
import subprocess
import sys

import pytest

from segtune.cli.main import main
from segtune.config.compose import compose
from segtune.data.source.places import check_place
from segtune.errors import ConfigError, DataError
from tests.conftest import TINY

TINY_RUN = [word for word in TINY if not word.startswith("dataset")]


@pytest.mark.parametrize(
    ("folder", "root", "hint"),
    [
        ("my roads", "my road", "Did you mean '{}/my roads'?"),
        ("Roads", "roads", "Did you mean '{}/Roads'?"),
        ("data/roads", "dat/roads", "Did you mean '{}/data/roads'?"),
        ("data/roads", "data/xyz", "'{}/data' does, and holds no 'xyz'."),
    ],
)
@pytest.mark.parametrize("dataset", ["folder", "coco"])
def test_a_mistyped_root_names_the_nearest_folder(tmp_path, dataset, folder, root, hint):
    (tmp_path / folder).mkdir(parents=True)
    words = [f"dataset={dataset}", f"dataset.root={root}", "dataset.classes=[a,b]"]
    with pytest.raises(DataError) as caught:
        check_place(compose(words).config.dataset)
    assert f"dataset.root '{tmp_path / root}' does not exist" in str(caught.value)
    assert hint.format(tmp_path) in str(caught.value)


@pytest.mark.parametrize("verb", ["train", "sweep", "check"])
def test_it_is_refused_before_weights_data_or_a_store_are_opened(
    tmp_path, verb, capsys, monkeypatch
):
    def fail(*_, **__):
        raise AssertionError("too early")

    (tmp_path / "my roads").mkdir()
    sweep = {"n_trials": 1, "workers": "auto", "search": {"hp.width": [16]}}
    (tmp_path / "s.yaml").write_text(json.dumps(sweep))
    for name in (
        "segtune.tracking.store.open_store",
        "segtune.training.fit.prepare",
        "segtune.training.time_budget.best_workers",
    ):
        monkeypatch.setattr(name, fail)
    words = [verb] if verb != "sweep" else [verb, "s.yaml"]
    words += ["dataset=folder", *(TINY_RUN if verb != "check" else [])]
    assert main([*words, "dataset.root=my rods"]) == 3
    assert "Did you mean" in capsys.readouterr().err
    assert main([*words, "dataset.root=my roads"]) == 2
    assert "names no classes" in capsys.readouterr().err
    assert not (tmp_path / "mlruns").exists()


def test_classes_in_the_config_or_in_a_file_are_enough(tmp_path):
    words = ["dataset=folder", f"dataset.root={tmp_path}"]
    with pytest.raises(ConfigError, match="names no classes"):
        check_place(compose(words).config.dataset)
    check_place(compose([*words, "dataset.classes=[a,b]"]).config.dataset)
    (tmp_path / "classes.yaml").write_text("classes: [a, b]\n")
    check_place(compose(words).config.dataset)


def test_the_check_loads_no_torch():
    code = "import sys, segtune.data.source.places; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
