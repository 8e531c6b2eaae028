"""How much each searched parameter matters, over all trials of a study, also those from before its space changed."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from segtune.sweeping.dimensions import plain_param
from segtune.sweeping.records import plain_params

_FEWEST = 4


def importance(study: optuna.Study | None) -> Mapping[str, float]:
    """Share of each searched parameter in the variance of mIoU (fANOVA, Hutter et al., 2014).

    Empty where fewer than four trials finished, or where they share no parameter.
    """
    trials = (
        [] if study is None else study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    )
    if study is None or len(trials) < _FEWEST:
        return {}
    if any(name != plain_param(name) for t in trials for name in t.params):
        study = _in_one_space(trials)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        shares: dict[str, float] = optuna.importance.get_param_importances(
            study, evaluator=evaluator
        )
    except (ValueError, RuntimeError):
        return {}
    return {k: float(v) for k, v in shares.items()}


def _in_one_space(trials: Sequence[FrozenTrial]) -> optuna.Study:
    """The trials in a study of its own, with one range for each parameter that holds all its values."""
    rows = [plain_params(t) for t in trials]
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    numbers = {name: _all_numbers(found) for name, found in values.items()}
    ranges = {name: _range_of(numbers[name] or values[name]) for name in values}
    study = optuna.create_study(direction="maximize")
    for trial, row in zip(trials, rows, strict=True):
        params = {k: float(v) if numbers[k] else str(v) for k, v in row.items()}
        own = {k: ranges[k] for k in params}
        study.add_trial(create_trial(params=params, distributions=own, value=trial.value))
    return study


def _all_numbers(values: Sequence[Any]) -> list[float]:
    """The values as numbers; none where one of them is no number."""
    try:
        return [float(v) for v in values]
    except ValueError:
        return []


def _range_of(values: Sequence[Any]) -> BaseDistribution:
    if all(isinstance(v, float) for v in values):
        return FloatDistribution(min(values), max(values))
    return CategoricalDistribution(sorted({str(v) for v in values}))
