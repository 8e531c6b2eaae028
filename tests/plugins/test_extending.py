"""The examples of docs/extending.md: each registers a part, and a training uses it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import segtune
from segtune import sweeping
from segtune.cli.main import main
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats import read
from segtune.plugins.groups import GROUPS
from segtune.plugins.loading import load_plugins
from segtune.plugins.registry import find
from segtune.testing import check_reader, check_sampler
from tests.conftest import TINY

PAGE = (Path(__file__).parents[2] / "docs/extending.md").read_text(encoding="utf-8")
EXAMPLES = dict(
    re.findall(r"\n## (\S[^\n]*)\n(?:(?!\n## ).)*?```python\n(.*?)```", PAGE, re.DOTALL)
)
TRAINED_WITH = {
    "Architecture": ["template=TwoLayers"],
    "Optimizer": ["optimizer.name=rmsprop", "optimizer.options.alpha=0.9"],
    "Scheduler": ["scheduler.name=steps", "scheduler.options.count=4"],
    "Augmentation": ["augment.parts={cutout: {side: 24}}"],
    "Metric": [],
    "Callback": ["trainer.callbacks={count_steps: {every: 1}}"],
    "Logger": ["tracking.loggers={csv: {separator: ';'}}"],
    "Loss": ["loss.terms={cross_entropy: 1, squared: 0.5}", "loss.options.squared.power=3"],
}
USABLE_BY_ALL = [w for w in TINY if not w.startswith(("template", "hp.width", "hp.num_epochs"))]


def load(title: str, folder: Path) -> None:
    """Load the example of a group."""
    path = folder / "page_example.py"
    path.write_text(EXAMPLES[title], encoding="utf-8")
    load_plugins([str(path)])


def test_no_example_is_long():
    assert EXAMPLES
    assert all(len(code.splitlines()) <= 30 for code in EXAMPLES.values())
    shown = {title.lower() for title in EXAMPLES}
    assert set(GROUPS) <= shown, "each group has an example, and each example is run below"


@pytest.mark.parametrize("title", TRAINED_WITH)
def test_the_example_of_a_group_trains(title, tmp_path, capsys):
    load(title, tmp_path)
    words = [*USABLE_BY_ALL, "hp.num_epochs=1", *TRAINED_WITH[title]]
    result = segtune.train(*words, f"tracking.root={tmp_path}/store", say=lambda _: None)
    assert result.state == "finished"
    if title == "Metric":
        assert 0 <= result.metrics["val/worst_recall"] <= result.metrics["val/mean_dice"]
    if title == "Callback":
        assert "step 2\n" in capsys.readouterr().out
    if title == "Logger":
        rows = (result.folder / "metrics.csv").read_text().splitlines()
        assert f"1;best/val/miou;{result.miou}" in rows


def test_the_example_of_a_reader_reads(tmp_path):
    load("Reader", tmp_path)
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(root / name)
    discs = {"a.png": [["ball", 20, 15, 6]], "b.png": [["moon", 5, 5, 3], ["ball", 30, 30, 4]]}
    (root / "discs.json").write_text(json.dumps(discs))
    config = DatasetConfig(name="discs", source="annotations", root=str(root), annotations={})
    annotations = read(root, config)
    assert {"ball", "moon"} <= {row["name"] for row in annotations.classes}
    check_reader(find("reader", "discs").load(), root)
    drawn = annotations.images[0].areas[0].draw(40, 50)
    assert drawn[15, 20] and drawn[15, 26] and not drawn[15, 28]
    result = segtune.import_dataset(root, tmp_path / "out", format="discs", say=lambda _: None)
    assert result.classes == ("background", "ball", "moon")
    (mask,) = [p for p in (tmp_path / "out").rglob("a.png") if "masks" in p.parts]
    assert np.asarray(Image.open(mask))[15, 20] == 1


def test_the_examples_of_a_writer_and_an_engine_predict_with_their_options(tmp_path, tiny_run):
    load("Writer", tmp_path)
    (tmp_path / "engine").mkdir()
    path = tmp_path / "engine" / "engine_example.py"
    path.write_text(EXAMPLES["Engine"], encoding="utf-8")
    load_plugins([str(path)])
    photo, out = tmp_path / "photo.png", tmp_path / "out"
    Image.fromarray(np.full((64, 96, 3), 90, np.uint8)).save(photo)
    words = [f"model={tiny_run.segmenter}", f"source={photo}", f"output={out}"]
    words += ["formats=areas,masks", "format_options.areas.digits=2", "runtime=compiled"]
    assert main(["predict", *words, "--runtime_options", "{backend: eager}"]) == 0
    rows = (out / "areas/photo.csv").read_text().splitlines()
    shares = [row.rpartition(",")[2] for row in rows]
    assert all(len(share) == 4 for share in shares) and abs(sum(map(float, shares)) - 1) < 0.05
    eager = segtune.load(tiny_run.segmenter).segment(photo).mask
    np.testing.assert_array_equal(np.asarray(Image.open(out / "masks/photo.png")), eager)
    parts = json.loads((out / "regions.json").read_text())["parts"]
    assert parts["writer/masks"] == {"options": {}, "plugin": None}
    assert parts["writer/areas"]["options"] == {"digits": 2}
    assert parts["engine/compiled"]["options"] == {"backend": "eager"}
    assert parts["engine/compiled"]["plugin"]["name"] == "engine_example"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["formats=ares"], r"formats=ares: did you mean 'areas'"),
        (["formats=areas", "format_options.areas.digit=2"], "no such option; did you mean 'digits"),
        (["formats=areas", "format_options.areas.digits=two"], "format_options.areas: digits"),
        (["formats=masks", "format_options.areas.digits=2"], "formats names no such writer"),
        (["format_options.overlays.opacity=2"], "less than or equal to 1"),
        (["format_options=3"], "write format_options={WRITER"),
        (["format_options.masks.x=1", "format_options.masks.x.y=1"], "x holds a value already"),
        (["runtime_options.backend=a"], "the engine 'auto' has no such option"),
        (["runtime=eagr"], "runtime=eagr: did you mean 'eager'"),
    ],
)
def test_a_wrong_format_or_option_is_refused_before_anything_is_read(
    tmp_path, capsys, words, message
):
    load("Writer", tmp_path)
    assert main(["predict", "model=nothing", "source=nothing", *words]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_the_examples_of_a_sampler_and_a_pruner_serve_a_search(tmp_path):
    load("Sampler", tmp_path)
    check_sampler(find("sampler", "wide_tpe").load(), startup=3)
    (tmp_path / "pruner").mkdir()
    path = tmp_path / "pruner" / "pruner_example.py"
    path.write_text(EXAMPLES["Pruner"], encoding="utf-8")
    load_plugins([str(path)])

    def objective(trial):
        for step in range(4):
            trial.report(trial.params["x"], step)
            if trial.should_prune():
                raise sweeping.TrialPruned
        return trial.params["x"]

    settings = sweeping.SearchSettings(
        folder=tmp_path / "study",
        n_trials=4,
        direction="maximize",
        workers=0,
        sampler="wide_tpe",
        sampler_options={"startup": 2},
        pruner="threshold",
        pruner_options={"lowest": 2.5, "after": 1},
    )
    result = sweeping.run(objective, {"x": [1.0, 2.0, 3.0, 4.0]}, settings)
    assert result.best.params["x"] == 4.0
    assert sorted(t.state for t in result.trials) == ["complete", "complete", "pruned", "pruned"]


def test_the_example_of_a_launcher_has_the_form_of_one(tmp_path):
    load("Launcher", tmp_path)
    (option,) = find("launcher", "plain").parameters()
    assert (option.name, option.default) == ("niceness", 10)


@pytest.mark.slow
def test_the_example_of_a_launcher_runs_a_sweep(tmp_path):
    load("Launcher", tmp_path)
    (tmp_path / "sweeps").mkdir()
    sweep = {"n_trials": 2, "workers": 2, "overrides": TINY, "search": {"seed": [1, 2]}}
    (tmp_path / "sweeps/two.yaml").write_text(yaml.safe_dump(sweep))
    words = ["sweep.launcher=plain", "sweep.launcher_options.niceness=5"]
    assert segtune.sweep("two", *words, say=print).counts.finished == 2
