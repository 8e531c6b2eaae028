"""The objective of a sweep: which metrics it may be, pruning by the first, the front of several."""

import json

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from segtune.errors import ConfigError
from segtune.report.front_figure import front_figure
from segtune.sweeping.engine.records import RUN, SPEC
from segtune.sweeping.objectives import CURVE, parse_objectives, should_prune
from segtune.sweeping.progress import progress
from segtune.sweeping.records import MIOU, front, objective_points, trial_rows
from segtune.sweeping.spec import load_spec
from segtune.tracking.runs import OBJECTIVE_TAG, RunRecord, best_run


@pytest.mark.parametrize(
    ("written", "name", "direction"),
    [
        ("val/miou", "val/miou", "maximize"),
        ("val/iou/person", "val/iou/person", "maximize"),
        ("val/ece", "val/ece", "minimize"),
        ("-val/fwiou", "val/fwiou", "minimize"),
        ("-cost/latency_ms", "cost/latency_ms", "minimize"),
        ("cost/params_m", "cost/params_m", "minimize"),
    ],
)
def test_an_objective_has_a_name_and_a_direction(written, name, direction):
    (objective,) = parse_objectives(written)
    assert (objective.name, objective.direction) == (name, direction)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("val/mios", "no such metric; did you mean 'val/miou'"),
        ("cost/latency", "did you mean 'cost/latency"),
        ("train/loss", "val/METRIC"),
        (["val/miou", "-val/miou"], "several different ones"),
    ],
)
def test_an_unknown_objective_is_refused_with_the_nearest(written, message):
    with pytest.raises(ConfigError, match=message):
        parse_objectives(written)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep.objective=val/boundary_iou"], "measured at the end. Set sweep.pruner=none"),
        (["sweep.objective=[-cost/params_m,val/miou]"], "cost/params_m is measured at the end"),
        (["sweep.objective=[val/miou,val/ece]", "sweep.sampler=cmaes"], "takes one objective"),
        (["sweep.objective=val/mious"], "did you mean 'val/miou'"),
        (["sweep.pruner=medain"], "no such pruner; did you mean 'median'"),
    ],
)
def test_a_sweep_whose_objective_does_not_fit_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        load_spec("quickstart", words)


def study_of(objective, rows):
    """A study with trials (values, curve)."""
    directions = [o.direction for o in parse_objectives(objective)]
    study = optuna.create_study(study_name="s", directions=directions)
    study.set_user_attr(SPEC, {"objective": objective})
    for number, (values, curve) in enumerate(rows):
        attrs = {RUN: f"r{number}", MIOU: values[0], CURVE: curve}
        study.add_trial(create_trial(values=values, user_attrs=attrs))
    return study


TWO = ["val/miou", "-val/ece"]


def test_the_front_holds_the_trials_that_no_other_beats_in_both():
    rows = [([0.5, 0.2], {}), ([0.6, 0.3], {}), ([0.4, 0.3], {}), ([0.6, 0.25], {})]
    study = study_of(TWO, rows)
    assert [row["trial"] for row in front(study)] == [3, 0]
    assert front(study)[0]["val/ece"] == 0.25
    assert [row["miou"] for row in trial_rows(study)] == [0.5, 0.6, 0.4, 0.6]
    shown = progress(study, 9, 1)
    assert shown.best[1] == 0.6 and "val mIoU 0.6000" in "\n".join(shown.lines())


def test_the_report_draws_the_front_of_a_metric_whose_plugin_is_not_loaded():
    rows = [([0.5, 0.2], {}), ([0.6, 0.3], {}), ([0.4, 0.3], {}), ([0.6, 0.25], {})]
    study = study_of(TWO, rows)
    study.set_user_attr(SPEC, {"objective": ["val/of_a_plugin", "-val/ece"]})
    figure = front_figure(objective_points(study))
    drawn = json.loads(figure.data)
    others, best = {trace["name"]: trace for trace in drawn["data"]}.values()
    assert (best["x"], best["y"]) == ([0.25, 0.2], [0.6, 0.5])
    assert (others["x"], others["y"]) == ([0.3, 0.3], [0.6, 0.4])
    assert drawn["layout"]["xaxis"]["title"]["text"] == "val/ece (less is better)"
    assert "2 of 4 finished trials" in figure.alternative and "trials 3, 0." in figure.alternative
    assert progress(study, 4, 1).best == (1, 0.6)
    assert objective_points(study_of("val/miou", [([0.5], {}), ([0.4], {})])) is None


def test_a_study_of_several_objectives_prunes_by_the_first():
    rows = [([0.9, 0.1], {"0": 0.8, "1": 0.9})] * 4
    study = study_of(TWO, rows)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=0)
    trial = study.ask()
    assert should_prune(study, trial, {0: 0.1, 1: 0.2})
    assert not should_prune(study, trial, {0: 0.85, 1: 0.95})


def test_less_is_best_where_the_objective_is_minimized():
    study = study_of("val/ece", [([0.3], {}), ([0.1], {}), ([0.2], {})])
    shown = progress(study, 9, 1)
    assert shown.best == (1, 0.1) and shown.to_json()["best"] == {"trial": 1, "val/ece": 0.1}
    assert study.get_trials(states=(TrialState.COMPLETE,))

    def run(number, ece):
        metrics = {"best/val/miou": ece, "best/val/ece": ece}
        tags = {OBJECTIVE_TAG: parse_objectives("val/ece")[0].tag}
        return RunRecord(str(number), "", "finished", {}, metrics, tags, 0.0, 0.0)

    assert best_run([run(0, 0.3), run(1, 0.1), run(2, 0.2)]).id == "1"
