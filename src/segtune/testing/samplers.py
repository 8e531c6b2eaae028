"""The contract of a sampler."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

_TRIALS = 12


def check_sampler(factory: Callable[..., BaseSampler], **options: Any) -> None:
    """Check a sampler as a sweep uses it: a new one for each trial, from a seed of its own.

    Proposals lie in their ranges, also of a key that only some trials have, and while other
    trials run, failed or were pruned. The same seeds give the same proposals, other seeds give
    others.

    Args:
        factory: as it is registered: (seed, **options) -> sampler.

    Raises:
        AssertionError: one of these does not hold.
    """
    sampler = _built(factory, 0, options)
    assert isinstance(sampler, BaseSampler), (
        f"it returns a {type(sampler).__name__}; expected is a sampler of Optuna"
    )
    first, again = (_proposals(factory, options, seed=1) for _ in range(2))
    for number, (one, other) in enumerate(zip(first, again, strict=True)):
        assert one == other, f"the same seeds give two proposals for trial {number}: {one}, {other}"
    assert first != _proposals(factory, options, seed=2), "two seeds give the same proposals"


def _built(factory: Callable[..., BaseSampler], seed: int, options: dict[str, Any]) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return factory(seed, **options)


def _proposals(
    factory: Callable[..., BaseSampler], options: dict[str, Any], seed: int
) -> list[dict[str, Any]]:
    """Run a small study; return the values of its trials."""
    study = optuna.create_study(sampler=_built(factory, seed, options))
    waiting: list[optuna.Trial] = []
    proposals = []
    for number in range(_TRIALS):
        study.sampler = _built(factory, 1000 * seed + number, options)
        trial = study.ask()
        proposals.append(_values(trial))
        waiting.append(trial)
        if len(waiting) == 2:  # two workers: one trial always runs while another is proposed
            _end(study, waiting.pop(0))
    return proposals


def _values(trial: optuna.Trial) -> dict[str, Any]:
    values: dict[str, Any] = {
        "choice": trial.suggest_categorical("choice", ("a", "b", "c")),
        "linear": trial.suggest_float("linear", -1.0, 1.0),
        "log": trial.suggest_float("log", 1e-4, 1.0, log=True),
        "whole": trial.suggest_int("whole", 1, 64, log=True),
    }
    if values["choice"] != "a":  # a key that only some trials have
        values["step"] = trial.suggest_float("step", 0.0, 1.0, step=0.25)
    allowed = {
        "linear": -1 <= values["linear"] <= 1,
        "log": 1e-4 <= values["log"] <= 1,
        "whole": values["whole"] in range(1, 65),
        "step": values.get("step", 0.0) in (0.0, 0.25, 0.5, 0.75, 1.0),
    }
    for name, is_allowed in allowed.items():
        assert is_allowed, f"it proposes {name}={values[name]!r}, which is outside of its range"
    return values


def _end(study: optuna.Study, trial: optuna.Trial) -> None:
    """Finish, prune and fail trials in turns."""
    if trial.number % 4 == 1:
        trial.report(float(trial.params["linear"]), 0)
        study.tell(trial, state=TrialState.PRUNED)
    elif trial.number % 4 == 3:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, trial.params["linear"] ** 2 + math.log10(trial.params["log"]))
