"""A sweep that continues after its space changed."""

import functools
import json

import optuna
import pytest

from segtune.errors import ConfigError
from segtune.sweeping.engine.records import OVERRIDES
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.importance import importance
from segtune.sweeping.records import trial_rows
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec

CHANGES = {
    "a choice is added": ("hp.width", [16, 24], [16, 24, 32]),
    "a choice is removed": ("hp.width", [16, 24, 32], [16, 32]),
    "a list becomes a range": ("hp.width", [16, 24], {"min": 16, "max": 64, "step": 8}),
    "a range becomes a list": ("hp.num_epochs", {"min": 2, "max": 9}, [2, 4, 8]),
    "a range becomes logarithmic": (
        "hp.per_item_lrate",
        {"min": 1e-4, "max": 1e-2},
        {"min": 1e-4, "max": 1e-2, "log": True},
    ),
    "a group has another member": ("loss", ["ce", "dice"], ["ce", "dice", "ce_dice"]),
}


def started(folder, search, n_trials, **options):
    values = {"name": "t", "sampler": "tpe", "pruner": "none", "overrides": ["dataset=street"]}
    search = {**search, "seed": {"min": 0, "max": 999}}
    spec = SweepSpec(n_trials=n_trials, search=search, **values, **options)
    study, space = SweepStudy(folder, spec), space_of(json.dumps(search))
    study.check_identity({"space": [d.describe() for d in space.dimensions]})
    study.begin()
    return study, space


@functools.cache  # to compose every choice takes a second
def space_of(search):
    overrides = ["dataset=street"]
    spec = SweepSpec(name="t", n_trials=1, search=json.loads(search), overrides=overrides)
    return build_space(spec)


def run(study, space):
    while (claim := study.claim(space)) is not None:
        study.finish(claim.trial, 0.5 + 0.001 * claim.trial.number)


@pytest.mark.parametrize("change", CHANGES)
def test_a_sweep_continues_after_its_space_changed_and_changed_back(change, tmp_path):
    key, before, after = CHANGES[change]
    run(*started(tmp_path, {key: before}, 4))
    study, space = started(tmp_path, {key: after}, 7, allow_drift=True)
    run(study, space)
    assert study.counts().finished == 7 and len(study.study.user_attrs["drift"]) == 1
    back, space = started(tmp_path, {key: before}, 10, allow_drift=True)
    run(back, space)
    assert back.counts().finished == 10
    rows = trial_rows(back.study)
    assert all(set(r["params"]) == {key, "seed"} for r in rows)  # one name in every report
    assert set(importance(back.study)) == {key, "seed"}
    first, changed_back = back.study.trials[0], back.study.trials[-1]
    # the old trials' distributions apply again
    assert set(first.params) == set(changed_back.params) == {key, "seed"}


@pytest.mark.parametrize("change", CHANGES)
def test_a_refused_change_leaves_the_study_as_it_was(change, tmp_path):
    key, before, after = CHANGES[change]
    study, space = started(tmp_path, {key: before}, 2)
    run(study, space)
    attrs = dict(study.study.user_attrs)
    with pytest.raises(ConfigError, match=rf"search\.{key}: .*Change it back"):
        started(tmp_path, {key: after}, 2)
    assert dict(SweepStudy(tmp_path, study.spec).study.user_attrs) == attrs
    again, space = started(tmp_path, {key: before}, 3)
    run(again, space)
    assert again.counts().finished == 3


def test_an_interrupted_trial_keeps_its_configuration_after_a_change(tmp_path):
    study, space = started(tmp_path, {"hp.width": [16, 24]}, 1)
    claim = study.claim(space)
    study.release(claim.trial)
    study, space = started(tmp_path, {"hp.width": [32, 40]}, 1, allow_drift=True)
    again = study.claim(space)
    assert again.overrides == claim.overrides and again.trial.params == claim.trial.params
    study.finish(again.trial, 0.5)
    assert study.claim(space) is None and study.is_complete()


def test_a_changed_setting_behind_an_unchanged_name_is_refused(tmp_path):
    study, _ = started(tmp_path, {"hp.width": [16, 24]}, 2)
    study.check_identity({"settings": {"hp.num_epochs": 12}})
    with pytest.raises(ConfigError, match=r"settings\.hp\.num_epochs: 12 -> 20"):
        study.check_identity({"settings": {"hp.num_epochs": 20}})


def test_a_half_batch_is_recorded_under_the_new_name(tmp_path):
    run(*started(tmp_path, {"hp.batch_size": [2, 4]}, 2))
    study, space = started(tmp_path, {"hp.batch_size": [2, 4, 8]}, 4, allow_drift=True)
    claim = study.claim(space)
    params = claim.space.changed(claim.trial.params, "hp.batch_size", 2)
    assert params["hp.batch_size#2"] == "2"
    study.replace(claim.trial, [*claim.overrides, "++hp.batch_size=2"], params, "out of memory")
    assert study.claim(space).trial.params["hp.batch_size#2"] == "2"


def test_a_configuration_that_ran_out_of_memory_is_not_tried_again(tmp_path):
    spec = SweepSpec(
        name="t",
        n_trials=2,
        sampler="grid",
        search={"hp.batch_size": [4, 8]},
        overrides=["dataset=street"],
    )
    study, space = SweepStudy(tmp_path, spec), build_space(spec)
    claimed = []
    while (claim := study.claim(space)) is not None and len(claimed) < 9:
        claimed.append(claim.overrides)
        if claim.overrides == ["dataset=street", "hp.batch_size=8"]:
            study.replace(claim.trial, [*claim.overrides, "++hp.batch_size=4"], {}, "out of memory")
        else:
            study.finish(claim.trial, 0.5)
    assert len(claimed) == 3 and study.counts().finished == 2


def test_a_study_without_a_recorded_space_continues(tmp_path):
    study, _ = started(tmp_path, {"hp.width": [16, 24]}, 2)
    identity = dict(study.study.user_attrs["identity"])
    del identity["space"]  # version 0.1.0 did not record it
    study.study.set_user_attr("identity", identity)
    study, space = started(tmp_path, {"hp.width": [16, 24]}, 2)
    run(study, space)
    assert study.counts().finished == 2 and "space" in study.study.user_attrs["identity"]
    finished = study.study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    assert all(OVERRIDES in trial.user_attrs for trial in finished)
