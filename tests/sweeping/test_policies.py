"""Fewer epochs for the same answer: paused trials, a prior, earlier sweeps, and an early end."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState
from pydantic import ValidationError

from segtune.errors import ConfigError
from segtune.sweeping.engine.attempts import enqueue_again
from segtune.sweeping.engine.fidelity import (
    PROMOTED,
    is_paused,
    sufficient_epochs,
)
from segtune.sweeping.engine.prior import Prior, PriorSampler
from segtune.sweeping.engine.pulling import report
from segtune.sweeping.engine.records import OVERRIDES, PAUSED, RUN, TO_THE_END, Counts
from segtune.sweeping.engine.samplers import build_sampler
from segtune.sweeping.engine.stopping import expected_gain
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec, load_spec
from segtune.sweeping.start_from import with_earlier_best
from tests.sweeping.test_study import LINE, make_spec

EPOCHS = 4


def run_epochs(study, claim, value):
    """Run a trial to its pause or its end, as a worker does; return whether it paused."""
    claim.trial.set_user_attr(RUN, claim.run or f"run {claim.trial.number}")
    done = study.study.trials[claim.trial.number].intermediate_values
    for epoch in range(len(done), EPOCHS):
        report(claim.trial, value * (epoch + 1), epoch)
        if epoch + 1 < EPOCHS and study.fidelity.is_reached(claim.trial, epoch):
            claim.trial.set_user_attr(PAUSED, True)
            study.finish(claim.trial, state=TrialState.PRUNED)
            return True
    study.finish(claim.trial, EPOCHS * value)
    return False


def run_sweep(folder, spec, space=LINE, values=None):
    """Run all trials, each with a study that was just opened, as after a kill."""
    ends = []
    while (claim := SweepStudy(folder, spec).claim(space)) is not None:
        value = claim.trial.params["hp.x"] if values is None else values[len(ends)]
        ends.append((run_epochs(SweepStudy(folder, spec), claim, value), claim))
    return ends


def test_paused_trials_go_on_in_their_own_run_and_the_total_stays_exact(tmp_path):
    spec = make_spec(n_trials=7, fidelity=2, promote_each=3)
    ends = run_sweep(tmp_path, spec)
    study = SweepStudy(tmp_path, spec)
    assert study.counts() == Counts(finished=2, pruned=5) and study.is_complete()
    assert [paused for paused, _ in ends] == [True] * 3 + [False] + [True] * 3 + [False] + [True]
    trials = study.study.trials
    for going_on, earlier in ((3, trials[:3]), (7, trials[:3] + trials[4:7])):
        waiting = [t for t in earlier if t.user_attrs[RUN] != trials[3].user_attrs[RUN]]
        best = max(earlier if going_on == 3 else waiting, key=lambda t: t.params["hp.x"])
        assert trials[going_on].user_attrs[RUN] == best.user_attrs[RUN]
        assert trials[going_on].intermediate_values.keys() == set(range(EPOCHS))
        assert trials[going_on].user_attrs[OVERRIDES] == best.user_attrs[OVERRIDES]


def test_the_best_of_too_few_trials_goes_on_at_the_end(tmp_path):
    spec = make_spec(n_trials=3, fidelity=1)
    run_sweep(tmp_path, spec)
    study = SweepStudy(tmp_path, spec)
    assert study.counts() == Counts(finished=1, pruned=2)
    assert study.study.best_trial.params["hp.x"] == max(t.params["hp.x"] for t in study.counted())


def test_a_kill_while_a_trial_is_sent_on_neither_loses_nor_repeats_it(tmp_path):
    spec = make_spec(n_trials=3, fidelity=1, promote_each=3)
    study = SweepStudy(tmp_path, spec)
    for _ in range(3):
        run_epochs(study, study.claim(LINE), 0.5)
    best = next(t for t in study.counted() if is_paused(t))
    # killed before the study listed the trial
    enqueue_again(study.study, best, attempt=0, more={TO_THE_END: PROMOTED})
    study = SweepStudy(tmp_path, spec)
    claim = study.claim(LINE)
    assert claim.run == best.user_attrs[RUN] and study.counts().claimed == 3
    study.release(claim.trial)  # interrupted once more
    claim = SweepStudy(tmp_path, spec).claim(LINE)
    assert claim.run == best.user_attrs[RUN]
    assert not run_epochs(study, claim, 0.5) and study.claim(LINE) is None
    assert study.counts() == Counts(finished=1, pruned=2)


def test_auto_measures_the_epoch_on_five_whole_trials(tmp_path):
    spec = make_spec(n_trials=12, fidelity="auto", promote_each=99)
    ends = run_sweep(tmp_path, spec)  # curves never cross: the first epoch tells
    # the best paused one led the best whole one at the epoch: it goes on at the end
    assert [paused for paused, _ in ends] == [False] * 5 + [True] * 7 + [False]
    study = SweepStudy(tmp_path, spec)
    assert study.fidelity.epochs() == 1 and study.counts() == Counts(finished=6, pruned=6)


@pytest.mark.parametrize(
    ("curves", "epochs"),
    [
        ([[1, 1], [2, 2], [3, 3]], 1),
        ([[3, 1, 1], [2, 2, 2], [1, 3, 3]], 2),
        ([[1, 3, 1], [2, 2, 2], [3, 1, 3]], 3),  # right by chance, wrong later
        ([[1, 1], [1, 2], [1, 3]], 2),
    ],
)
def test_the_fidelity_is_the_epoch_from_which_on_ranks_hold(curves, epochs):
    assert sufficient_epochs([dict(enumerate(curve)) for curve in curves]) == epochs


@pytest.mark.parametrize("more", [1, 3, 6])
def test_the_expected_gain_is_that_of_all_orders(more):
    values = [random.Random(7).random() for _ in range(7)]
    subsets = itertools.combinations(values, 7 - more)
    assert expected_gain(values, more) == pytest.approx(max(values) - np.mean([*map(max, subsets)]))


def test_a_sweep_ends_when_more_trials_gain_too_little_and_says_so(tmp_path):
    spec = make_spec(n_trials=40, stop_when={"gain_below": 0.2})
    values = [0.1, 0.9, *[0.9 - 0.0001 * n for n in range(38)]]
    ends = run_sweep(tmp_path, spec, values=[value / EPOCHS for value in values])
    study = SweepStudy(tmp_path, spec)
    assert 10 <= len(ends) < 20 and study.is_complete()
    assert "less than stop_when.gain_below=0.2" in study.stopped_because()
    study.begin()
    assert study.claim(LINE) is None  # the same command ends with the same answer
    assert len(run_sweep(tmp_path, make_spec(n_trials=30))) == 30 - len(ends)


def test_a_share_of_the_trials_is_drawn_around_the_prior():
    spec = make_spec()
    prior = Prior({"lr": 1e-3, "width": 32, "loss": "ce"}, "high")
    ranges = {
        "lr": FloatDistribution(1e-5, 1e-1, log=True),
        "width": IntDistribution(16, 64, step=8),
        "loss": CategoricalDistribution(["ce", "dice", "focal"]),
    }
    near = 0
    for asked in range(200):
        sampler = build_sampler(spec, asked, prior)
        again = build_sampler(spec, asked, prior)
        drawn = {n: sampler.sample_independent(None, None, n, d) for n, d in ranges.items()}
        assert drawn == {n: again.sample_independent(None, None, n, d) for n, d in ranges.items()}
        assert all(d._contains(d.to_internal_repr(drawn[n])) for n, d in ranges.items())
        assert isinstance(sampler, PriorSampler)
        near += 4e-4 < drawn["lr"] < 2.5e-3 and drawn["loss"] == "ce"
    assert 70 <= near <= 140  # without the prior, 13


FIXED = ["dataset=street", "hp.pretrained_weights=none"]


def sweep(search, **options):
    values = {"name": "t", "n_trials": 4, "overrides": FIXED, **options}
    return SweepSpec(search=search, **values)


def test_the_priors_centre_is_tried_first():
    search = {"hp.width": [24, 32], "hp.per_item_lrate": {"min": 1e-4, "max": 1e-2}}
    space = build_space(sweep(search, prior={"hp.width": 24}))
    assert space.prior.centre == {"hp.width": "24", "hp.per_item_lrate": 4e-4}
    assert space.enqueued == ({"hp.width": 24, "hp.per_item_lrate": 4e-4},)
    enqueued = build_space(sweep(search, prior="defaults", enqueue=["default"])).enqueued
    assert enqueued == ({"hp.width": 32, "hp.per_item_lrate": 4e-4},)


def test_each_template_has_its_own_centre():
    search = {"template": ["swift", "fpn"], "hp.per_item_lrate": {}, "hp.width": [24, 32]}
    prior = build_space(sweep(search, prior={"template": "fpn"})).prior
    assert prior.centre["template"] == "fpn" and prior.centre["hp.width@swift"] == "32"
    rates = {name: value for name, value in prior.centre.items() if "lrate@" in name}
    assert rates["hp.per_item_lrate@swift"] == 4e-4 != rates["hp.per_item_lrate@fpn"]


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ({"hp.widht": 24}, r"prior: hp\.widht is not searched; did you mean 'hp.width'"),
        ({"hp.width": 40}, r"prior: hp\.width=40 is not in the space, which holds 24, 32"),
    ],
)
def test_a_prior_outside_of_the_space_is_refused(prior, message):
    with pytest.raises(ConfigError, match=message):
        build_space(sweep({"hp.width": [24, 32]}, prior=prior, n_trials=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fidelity": 0}, "greater than or equal to 1"),
        ({"fidelity": True}, "a number is expected"),
        ({"fidelity": 3, "pruner": "median"}, "pauses trials, and pruner=median ends them"),
        ({"fidelity": 3, "sampler": "gp"}, "learns from finished trials alone"),
        ({"fidelity": 3, "sampler": "nsgaii"}, "learns from finished trials alone"),
        ({"promote_each": 2}, "says nothing without fidelity"),
        ({"prior_confidence": "high"}, "says nothing without prior"),
        ({"prior": "defaults", "sampler": "grid"}, "leave prior out"),
        ({"fidelity": 3, "search": {"hp.num_epochs": [3, 9]}}, "trials of one length"),
        ({"fidelity": 3, "objective": ["val/miou", "cost/latency_ms"]}, "one objective"),
        ({"prior": "best"}, "defaults"),
        ({"prior_confidence": "certain"}, "low"),
        ({"stop_when": {"gain_below": 0}}, "greater than 0"),
        ({"stop_when": {"gain": 1}}, "gain"),
    ],
)
def test_a_wrong_value_gets_a_message(options, message):
    with pytest.raises(ValidationError, match=message):
        make_spec(**{"pruner": "none", **options})


@pytest.mark.parametrize("key", ["fidelity: 3", "stop_when: {gain_below: 1}"])
def test_a_figure_of_the_end_neither_pauses_nor_stops(key, tmp_path):
    path = tmp_path / "s.yaml"
    lines = ["n_trials: 4", "pruner: none", "objective: cost/latency_ms", key]
    path.write_text("\n".join([*lines, "search: {hp.width: {}}"]))
    with pytest.raises(ConfigError, match="cost/latency_ms"):
        load_spec(str(path))


def earlier_sweep(root: Path, values, name="earlier"):
    """A finished sweep of the store, whose trials have these widths and values."""
    search = {"hp.width": [16, 24, 32], "hp.per_item_lrate": {"min": 1e-5, "max": 1.0}}
    enqueue = [{"hp.width": width, "hp.per_item_lrate": lr} for width, lr, _ in values]
    spec = SweepSpec(
        name=name, n_trials=len(values), search=search, enqueue=enqueue, overrides=FIXED
    )
    study = SweepStudy(root / "sweeps" / name, spec)
    study.begin()
    space = build_space(spec)
    for *_, value in values:
        study.finish(study.claim(space).trial, value)


def test_the_best_of_an_earlier_sweep_are_tried_first_as_far_as_they_fit(tmp_path):
    values = [(24, 1e-3, 0.4), (16, 2e-3, 0.9), (24, 0.5, 0.8), (32, 2e-3, 0.7)]
    earlier_sweep(tmp_path, values)
    search = {"hp.width": [24, 32], "hp.per_item_lrate": {"min": 1e-4, "max": 1e-2, "log": True}}
    spec = sweep(search, start_from=["earlier"])
    lines = []
    new = with_earlier_best(spec, build_space(spec), tmp_path, lines.append)
    # a width and a rate outside of the space have their defaults, 32 and 4e-4
    expected = [(32, 2e-3), (24, 4e-4)]
    assert [tuple(item.values()) for item in new.enqueue] == expected
    assert build_space(new).enqueued == tuple(new.enqueue) and "2 configurations" in lines[0]
    study = SweepStudy(tmp_path / "sweeps" / "t", new)
    study.begin()
    earlier_sweep(tmp_path, [(32, 5e-3, 1.0)], name="more")
    assert with_earlier_best(spec, build_space(spec), tmp_path, print).enqueue == new.enqueue


@pytest.mark.parametrize(
    ("objective", "name", "message"),
    [
        ("val/miou", "earler", "never started in .* did you mean 'earlier'"),
        ("val/ece", "earlier", "has the objective val/miou, and this one val/ece"),
    ],
)
def test_a_sweep_that_cannot_help_is_refused(objective, name, message, tmp_path):
    earlier_sweep(tmp_path, [(24, 1e-3, 0.4)])
    options = {"start_from": [name], "objective": objective, "pruner": "none", "n_trials": 1}
    spec = sweep({"hp.width": [24]}, **options)
    with pytest.raises(ConfigError, match=message):
        with_earlier_best(spec, build_space(spec), tmp_path, print)
