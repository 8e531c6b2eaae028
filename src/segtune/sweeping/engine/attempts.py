"""Attempts at a trial: an interrupted or failed one is enqueued again with its run."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from segtune.sweeping.engine.dimensions import draw
from segtune.sweeping.engine.records import ERROR, OVERRIDES, RETRIED, RETRY_OF, RUN, TO_THE_END

# user attributes of an attempt: deaths in a row at one epoch, and the last epoch of the one before
_ATTEMPT, _REACHED = "attempt", "reached"


def requeue(study: optuna.Study, trial: FrozenTrial, max_retries: int, worker_died: bool) -> None:
    """Fail an attempt and enqueue the next one.

    A trial that lost its worker more than `max_retries` times in a row at the same epoch stays
    failed. The next attempt is enqueued first, so that a kill between the two writes neither loses
    the trial nor runs it twice.
    """
    reached = _last_epoch(trial)
    has_advanced = reached > int(trial.user_attrs.get(_REACHED, -1))
    deaths = (0 if has_advanced else int(trial.user_attrs.get(_ATTEMPT, 0))) + worker_died
    again = deaths <= max_retries
    if again:
        enqueue_again(study, trial, deaths)
    storage, trial_id = study._storage, trial._trial_id
    storage.set_trial_user_attr(trial_id, RETRIED, again)
    if not again:
        error = f"its worker died {deaths} times at epoch {reached + 1}"
        storage.set_trial_user_attr(trial_id, ERROR, error)
    study.tell(trial.number, state=TrialState.FAIL)


def enqueue_again(
    study: optuna.Study, trial: FrozenTrial, attempt: int, more: Mapping[str, Any] | None = None
) -> None:
    """Enqueue the next attempt at a trial, unless it is enqueued already.

    Args:
        attempt: deaths of a worker in a row so far, at the epoch that the trial reached.
        more: further user attributes of the next attempt.
    """
    trials = study.get_trials(deepcopy=False)
    if any(other.user_attrs.get(RETRY_OF) == trial.number for other in trials):
        return
    kept = (RUN, OVERRIDES, TO_THE_END)
    attrs = {key: trial.user_attrs[key] for key in kept if key in trial.user_attrs}
    attrs |= {_ATTEMPT: attempt, RETRY_OF: trial.number, _REACHED: _last_epoch(trial)}
    attrs |= dict(more or {})
    # an attempt that died at its start has drawn none of its parameters, or some
    params = trial.system_attrs.get("fixed_params", {}) | trial.params
    study.enqueue_trial(params, user_attrs=attrs)


def restore(study: optuna.Study, trial: optuna.Trial) -> None:
    """Give a new attempt the parameters and the learning curve of the attempts before."""
    trials = study.get_trials(deepcopy=False)
    fixed = trials[trial.number].system_attrs.get("fixed_params", {})
    distributions: dict[str, BaseDistribution] = {}
    curve: dict[int, float] = {}
    for earlier in _earlier_attempts(trials, trial.user_attrs[RETRY_OF]):
        distributions |= earlier.distributions
        curve |= earlier.intermediate_values
    for name, distribution in distributions.items():
        if name in fixed:
            draw(trial, name, distribution)
    if RUN in trial.user_attrs:
        for epoch, value in sorted(curve.items()):
            trial.report(value, epoch)


def _earlier_attempts(trials: Sequence[FrozenTrial], number: int | None) -> list[FrozenTrial]:
    """Return the attempts up to one, the first one first; a killed one may have recorded little."""
    attempts: list[FrozenTrial] = []
    while number is not None:
        attempts.insert(0, trials[number])
        number = trials[number].user_attrs.get(RETRY_OF)
    return attempts


def _last_epoch(trial: FrozenTrial) -> int:
    """Return the last epoch that was validated, from 0; -1 before the first."""
    reached = int(trial.user_attrs.get(_REACHED, -1))
    return max(trial.intermediate_values, default=reached)
