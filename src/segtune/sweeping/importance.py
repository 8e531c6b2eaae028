"""The importance of each searched parameter, over all trials of a study.

Trials from before a change of the search space count as well.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from segtune.sweeping.dimensions import plain_param
from segtune.sweeping.objectives import first_value
from segtune.sweeping.records import plain_params

MIN_TRIALS = 10
"""With fewer finished trials, another estimate of the same study gives other shares."""
_RESAMPLES, _MOST_RESAMPLED = 20, 200  # resamples; trials of one


def importance(study: optuna.Study | None) -> Mapping[str, float]:
    """Return each parameter's share in the variance of the objective (fANOVA, Hutter et al., 2014).

    The result is empty if fewer than `MIN_TRIALS` finished, or if they share no parameter.
    """
    trials = _finished(study)
    return {} if len(trials) < MIN_TRIALS else _shares(_single_objective(trials), trees=64)


def importance_ranges(
    study: optuna.Study | None, seconds: float = 10.0
) -> Mapping[str, tuple[float, float]]:
    """Return the 80 % range of each share of `importance` over bootstrap resamples of the trials.

    Args:
        seconds: no resample begins after this time. Each has at most 200 trials.
    """
    trials = _finished(study)
    if len(trials) < MIN_TRIALS:
        return {}
    rng = np.random.default_rng(0)
    shares: dict[str, list[float]] = {}
    end = time.perf_counter() + seconds
    for _ in range(_RESAMPLES):
        chosen = rng.integers(len(trials), size=min(len(trials), _MOST_RESAMPLED))
        resampled = _single_objective([trials[number] for number in chosen])
        for name, share in _shares(resampled, trees=16).items():
            shares.setdefault(name, []).append(share)
        if time.perf_counter() > end:
            break
    ranges = {name: np.quantile(values, (0.1, 0.9)) for name, values in shares.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ranges.items()}


def _finished(study: optuna.Study | None) -> Sequence[FrozenTrial]:
    if study is None:
        return []
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _single_objective(trials: Sequence[FrozenTrial]) -> optuna.Study:
    """Copy the trials, with their first objective, into a study in memory."""
    names = set(chain.from_iterable(trial.params for trial in trials))
    if any(name != plain_param(name) for name in names):
        return _in_one_space(trials)
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        study.add_trial(
            create_trial(
                params=trial.params,
                distributions=trial.distributions,
                value=first_value(trial),
            )
        )
    return study


def _shares(study: optuna.Study, trees: int) -> Mapping[str, float]:
    """Return the shares; empty if the trials have no common parameter or one value."""
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=0)
    try:
        shares: dict[str, float] = optuna.importance.get_param_importances(
            study, evaluator=evaluator
        )
    except (ValueError, RuntimeError):
        return {}
    return {name: float(share) for name, share in shares.items()}


def _in_one_space(trials: Sequence[FrozenTrial]) -> optuna.Study:
    """Copy the trials into a study with one distribution for each parameter.

    The distribution of a parameter holds all its values.
    """
    rows = [plain_params(trial) for trial in trials]
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    numbers = {name: _as_numbers(column) for name, column in values.items()}
    distributions = {name: _distribution(numbers[name] or values[name]) for name in values}
    study = optuna.create_study(direction="maximize")
    for trial, row in zip(trials, rows, strict=True):
        params = {k: float(v) if numbers[k] else str(v) for k, v in row.items()}
        own_distributions = {name: distributions[name] for name in params}
        study.add_trial(
            create_trial(params=params, distributions=own_distributions, value=first_value(trial))
        )
    return study


def _as_numbers(values: Sequence[Any]) -> list[float]:
    """Return the values as numbers; an empty list if one of them is not a number."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return []


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    if all(isinstance(value, float) for value in values):
        return FloatDistribution(min(values), max(values))
    return CategoricalDistribution(sorted({str(value) for value in values}))
