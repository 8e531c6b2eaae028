"""The importance of each searched parameter, over all trials of a study.

Trials from before a change of the search space count as well.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from segtune.sweeping.dimensions import plain_param
from segtune.sweeping.objectives import first_value
from segtune.sweeping.records import plain_params

_MIN_TRIALS = 4


def importance(study: optuna.Study | None) -> Mapping[str, float]:
    """Return each parameter's share in the variance of the objective (fANOVA, Hutter et al., 2014).

    The result is empty if fewer than four trials finished, or if they share no parameter.
    """
    if study is None:
        return {}
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(trials) < _MIN_TRIALS:
        return {}
    names = set(chain.from_iterable(trial.params for trial in trials))
    if any(name != plain_param(name) for name in names):
        study = _in_one_space(trials)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        shares: dict[str, float] = optuna.importance.get_param_importances(
            study, evaluator=evaluator, target=lambda trial: trial.values[0]
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
