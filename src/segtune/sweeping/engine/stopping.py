"""End a sweep when more trials are not expected to gain enough."""

import math
from collections.abc import Sequence

import optuna
from optuna.trial import TrialState

from segtune.sweeping.engine.fidelity import value_at
from segtune.sweeping.engine.records import counted_trials
from segtune.sweeping.engine.settings import StudySettings

MIN_TRIALS = 10


def reason_to_stop(study: optuna.Study, spec: StudySettings, fidelity: int | None) -> str | None:
    """Return why a sweep ends before its total; None if it goes on.

    Args:
        fidelity: epochs after which trials are paused; trials are compared there.
    """
    limit = spec.gain_below
    if limit is None:
        return None
    values = _values(study, spec, fidelity)
    if len(values) < MIN_TRIALS:
        return None
    more = len(values) // 2
    gain = 100 * expected_gain(values, more)
    if gain >= limit:
        return None
    at = f" after {fidelity} epochs" if fidelity else ""
    return (
        f"{more} more trials are expected to raise the best value{at} by at most {gain:.2f} "
        f"points, which is less than stop_when.gain_below={limit:g}"
    )


def expected_gain(values: Sequence[float], more: int) -> float:
    """Return a bound on what `more` further random trials are expected to add to the best value.

    The expected best of m exchangeable trials rises ever more slowly with m. So the next trials
    add at most what the last ones added, in the mean over all orders: E[max of n] minus
    E[max of n - more].

    >>> round(expected_gain([1.0, 2.0, 3.0, 4.0], 2), 3)  # pairs have a mean maximum of 10/3
    0.667

    Args:
        values: of n trials; more is better.
        more: 1 to n - 1.
    """
    ordered, fewer = sorted(values), len(values) - more
    subsets = math.comb(len(ordered), fewer)
    mean_best = sum(
        value * math.comb(position, fewer - 1) / subsets for position, value in enumerate(ordered)
    )
    return ordered[-1] - mean_best


def _values(study: optuna.Study, spec: StudySettings, fidelity: int | None) -> list[float]:
    """Return a value for each ended trial; a failed one has the worst value."""
    sign = 1 if spec.directions[0] == "maximize" else -1
    values, failed = [], 0
    for trial in counted_trials(study):
        if trial.state == TrialState.FAIL:
            failed += 1
        elif trial.state.is_finished():
            curve = trial.intermediate_values
            if fidelity is not None and curve:
                values.append(sign * value_at(trial, fidelity))
            elif trial.values:
                values.append(sign * trial.values[0])
            elif curve:
                values.append(max(sign * value for value in curve.values()))
    return values + [min(values)] * failed if values else []
