"""Reports of unlike runs: each lacks a parameter, a figure or evidence that another has."""

import csv
import json
import re

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError
from segtune.report.compare import compare
from segtune.report.sweep_figures import SweepFacts, sweep_figures
from segtune.sweeping.engine.storage import open_storage
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.store import open_store
from tests.report.fakes import EVIL, fake_run, matrices

UNLIKE = {
    "losses": ({"loss.terms.ce": "1.0"}, {"loss.terms.ce": "1.0", "loss.terms.dice": "0.5"}),
    "templates": (
        {"template": "swift", "hp.width": "16"},
        {"template": "linknet", "hp.encoder": "resnet18"},
    ),
    "optimizers": (
        {"optimizer.betas": "[0.9, 0.999]"},
        {"optimizer.momentum": "0.9", "optimizer.nesterov": "True"},
    ),
    "nothing in common": ({"a.x": "1"}, {"b.items": "2"}),
}


@pytest.fixture
def store(tmp_path):
    return open_store(TrackingConfig(root=str(tmp_path / "store")))


def rows_of(page, head="Candidates"):
    """Return the text of all cells of a table of the page, row by row."""
    body = re.search(rf"<h2[^>]*>{head}</h2>.*?<table[^>]*>(.*?)</table>", page, re.S)[1]
    rows = re.findall(r"<tr.*?</tr>", body, re.S)
    cells = [re.findall(r"<t[hd].*?</t[hd]>", row, re.S) for row in rows]
    return [[re.sub("<.*?>", "", cell) for cell in row] for row in cells]


@pytest.mark.parametrize("kind", UNLIKE)
@pytest.mark.parametrize("state", ["finished", "pruned"])
def test_a_parameter_that_a_run_lacks_is_a_dash(store, kind, state):
    one, two = UNLIKE[kind]
    first = fake_run(store, "a1", 0.8, sweep="s", params={"hp.width": None} | one)
    fake_run(store, "b2", 0.7, sweep="s", params={"hp.width": None} | two, state=state)
    report = compare(store, ["s"])
    head, best, other = rows_of(report.html.read_text())
    for key in one.keys() ^ two.keys():
        cells = best[head.index(key)], other[head.index(key)]
        assert "–" in cells and len(set(cells)) == 2, key
    assert report.best.first.id == first
    if state == "finished":
        table = list(csv.DictReader(report.csv.read_text().splitlines()))
        assert {table[0][key] for key in two.keys() - one.keys()} <= {""}
        assert {table[1][key] for key in one.keys() - two.keys()} <= {""}


@pytest.mark.parametrize(
    "states",
    [
        ["finished"],
        ["pruned"] * 2,
        ["failed"] * 2,
        ["running"],
        ["interrupted"],
        ["finished", "pruned", "failed", "running", "infeasible"],
    ],
)
def test_any_mix_of_states_ends_in_a_report(store, states):
    for n, state in enumerate(states):
        fake_run(store, f"r{n}", 0.5, state=state, sweep="s", params={f"only.{state}": n})
    report = compare(store, ["s"])
    page, data = report.html.read_text(), json.loads(report.json.read_text())
    assert len(data["candidates"]) == states.count("finished") and report.runs == len(states)
    assert all(state in page for state in set(states) - {"finished"})
    assert (report.best is None) == ("No run has finished yet" in page)


def test_costs_classes_and_groups_of_only_one_run_are_missing_for_the_other(store):
    absent = matrices(0.8)
    absent[:, 2] = absent[:, :, 2] = 0  # class 2 is neither in the truth nor predicted
    predicted = absent.copy()
    predicted[:, 0, 2] += absent[:, 0, 0] // 2
    predicted[:, 0, 0] -= absent[:, 0, 0] // 2
    groups = tuple(f"v{n % 9}" for n in range(120))
    one = fake_run(store, "a1", counts=absent, cost={}, groups=groups)
    two = fake_run(store, "b2", counts=predicted, cost={"latency_ms": 4.0})
    report = compare(store, [one, two])
    facts = json.loads(report.json.read_text())
    assert [c["iou"]["sky"] for c in facts["candidates"]] == [None, 0.0]
    assert facts["split"]["groups"] == 9 and "bootstrap over groups" in facts["method"]
    card = (report.html.parent / "README.md").read_text()
    assert "n/a M parameters" in card and "0 M parameters" not in card


def test_runs_with_different_labels_of_the_same_files_are_refused(store):
    other = matrices(0.8)
    other[:, 1] += other[:, 0]
    other[:, 0] = 0
    with pytest.raises(ConfigError, match="different labels"):
        compare(store, [fake_run(store, "a1"), fake_run(store, "b2", counts=other)])


def test_only_the_trials_that_were_measured_on_the_split_are_compared(store):
    fake_run(store, "a1", 0.8, sweep="s", split="test")
    fake_run(store, "b2", 0.7, sweep="s", split="test")
    fake_run(store, "c3", 0.9, sweep="s", split="val")
    report = compare(store, ["s"], split="test")
    assert [c["name"] for c in report.facts["candidates"]] == ["a1", "b2"]
    assert any("without evidence on test" in w and "c3" in w for w in report.facts["warnings"])
    with pytest.raises(ConfigError, match="no evidence on the other split"):
        compare(store, ["s"], split="other")


def test_a_sweeps_parent_run_stands_for_the_sweep_and_a_workflow_is_refused(store):
    parent = RunWriter.create(store, "s", {}, {"segtune.kind": "sweep", "segtune.sweep": "s"})
    parent.metrics({"best/val/miou": 0.8}, 1)
    fake_run(store, "a1", 0.8, sweep="s")
    assert compare(store, [parent.run_id]).facts["candidates"][0]["name"] == "a1"
    workflow = RunWriter.create(store, "w", {}, {"segtune.kind": "workflow"})
    with pytest.raises(ConfigError, match="is a workflow"):
        compare(store, [workflow.run_id])


def test_figures_that_json_cannot_express_are_null(store):
    run = RunWriter(store, fake_run(store, "a1", state="failed", sweep="s"))
    run.metrics({"val/miou": float("nan")}, 4)
    report = compare(store, ["s"])
    facts = json.loads(report.json.read_text(), parse_constant=pytest.fail)
    assert facts["others"][0]["last_val_miou"] is None


def trial(number, value, **params):
    return {"number": number, "state": "complete", "miou": value, "params": params, "run": None}


def lines_of(figure):
    """Return the heights of each line of parallel coordinates by its text."""
    lines = {}
    for trace in figure["data"]:
        for text, height in zip(trace["text"], trace["y"], strict=True):
            if height is not None:
                lines.setdefault(text, []).append(height)
    return lines


@pytest.mark.parametrize(
    "values",
    [
        (None, 0.99),
        ("[0.5, 2.0]", "[0.9, 1.1]"),
        (True, False),
        ("8", "16", "128"),
        (1e-4, 1e-2),
        (0, 3),
        ("a", 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("lacking", [False, True])
def test_a_parameter_of_any_kind_is_drawn_even_if_a_trial_lacks_it(values, lacking):
    trials = [trial(n, 0.5 + n / 20, x=v, template="swift") for n, v in enumerate(values)]
    trials += [trial(9, 0.3, template="fpn"), trial(10, 0.4, template="fpn")] if lacking else []
    figures = {f.id: json.loads(f.data) for f in sweep_figures(SweepFacts(trials), {}, [])}
    assert set(figures) == {"history", "parallel", "slices"}
    lines = lines_of(figures["parallel"])
    place = figures["parallel"]["layout"]["xaxis"]["ticktext"].index("x")
    heights = [lines[f"trial {n}: {50 + 5 * n:.1f}"][place] for n in range(len(values))]
    assert len(set(heights)) == len(values) and 0.0 <= min(heights) < max(heights) <= 1.0
    if values == ("8", "16", "128"):
        assert heights == sorted(heights)  # as numbers, not as words
    if lacking:
        assert lines["trial 9: 30.0"][place] == 0.0 < min(heights)


def test_a_sweep_over_losses_and_templates_has_its_figures(store):
    storage = open_storage(store.root / "sweeps" / "s", None, "s").optuna
    study = optuna.create_study(study_name="s", direction="maximize", storage=storage)
    rate = FloatDistribution(1e-4, 1e-2, log=True)
    loss = CategoricalDistribution(["ce", "ce_dice", EVIL])
    template = CategoricalDistribution(["swift", "linknet"])
    for n in range(10):
        name = ["swift", "linknet"][n % 2]
        space = {f"hp.per_item_lrate@{name}": rate, "loss": loss, "template": template}
        params = {
            f"hp.per_item_lrate@{name}": 1e-3 * (n + 1),
            "loss": ["ce", "ce_dice", EVIL][n % 3],
            "template": name,
        }
        miou = 0.5 + n / 30
        study.add_trial(optuna.trial.create_trial(value=miou, params=params, distributions=space))
        run_params = {"template": name, f"loss.terms.{n % 3}": "1"}
        fake_run(store, f"s-{n}", miou, sweep="s", params=run_params)
    page = compare(store, ["s"]).html.read_text()
    for key in ("history", "importance", "parallel", "slices"):
        assert f'id="{key}-title"' in page
    assert EVIL not in page
