"""Pause every trial at an early epoch; the best of them go on from their checkpoints.

To stop all trials at one early epoch and to train only the best ones to the end is hard to beat
(Egele et al., arXiv 2404.04111). The epoch is given, or measured on the first trials of the sweep.
"""

import math
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import spearmanr

from segtune.sweeping.engine.attempts import enqueue_again
from segtune.sweeping.engine.records import (
    PAUSED,
    RETRIED,
    RETRY_OF,
    TO_THE_END,
    counted_trials,
)
from segtune.sweeping.engine.settings import StudySettings

CALIBRATION, PROMOTED = "calibration", "promoted"  # why a trial is not paused

_MEASURED = "fidelity"  # user attribute of a study: the epochs that `auto` has measured
CALIBRATION_TRIALS = 5
ENOUGH = 0.8
"""Rank correlation with the last epoch from which on an epoch is late enough."""


class Fidelity:
    """The epoch at which a study pauses its trials, and the paused trials that go on."""

    def __init__(self, study: optuna.Study, spec: StudySettings) -> None:
        self.study, self.spec = study, spec

    def epochs(self) -> int | None:
        """Return the epochs after which a trial is paused; None if trials are not paused (yet)."""
        if self.spec.fidelity != "auto":
            return self.spec.fidelity
        measured = self.study.user_attrs.get(_MEASURED)
        return None if measured is None else int(measured)

    def measure(self) -> None:
        """Choose the epoch of `auto` once enough trials have finished; the study keeps it."""
        if self.spec.fidelity != "auto" or self.epochs() is not None:
            return
        finished = [
            trial.intermediate_values
            for trial in counted_trials(self.study)
            if trial.state == TrialState.COMPLETE
            and trial.user_attrs.get(TO_THE_END) == CALIBRATION
        ]
        if len(finished) >= CALIBRATION_TRIALS:
            self.study.set_user_attr(_MEASURED, sufficient_epochs(finished))

    def mark(self, trial: optuna.Trial) -> None:
        """Let a trial that begins train to its end if `auto` needs it for its measurement."""
        if self.spec.fidelity != "auto" or TO_THE_END in trial.user_attrs:
            return
        no_curve = (TrialState.FAIL, TrialState.PRUNED)
        marked = [t for t in counted_trials(self.study) if t.state not in no_curve]
        reasons = [t.user_attrs.get(TO_THE_END) for t in marked if t.number != trial.number]
        if reasons.count(CALIBRATION) < CALIBRATION_TRIALS:
            trial.set_user_attr(TO_THE_END, CALIBRATION)

    def is_reached(self, trial: optuna.Trial, epoch: int) -> bool:
        """Return whether a trial pauses after an epoch, which counts from 0."""
        epochs = self.epochs()
        if epochs is None or TO_THE_END in trial.user_attrs:
            return False
        return epoch + 1 >= epochs

    def promote(self, at_end: bool, is_spent: bool) -> bool:
        """Enqueue the best paused trial if one more may go on; return whether it did.

        Args:
            at_end: no further trial begins.
            is_spent: the budget is used up: a trial goes on only if none has finished.
        """
        best = self._next(at_end, is_spent)
        if best is None:
            return False
        enqueue_again(self.study, best, attempt=0, more={TO_THE_END: PROMOTED})
        self.list_promoted()
        return True

    def is_pending(self, is_spent: bool) -> bool:
        """Return whether a paused trial has yet to go on although no further trial begins."""
        return self._next(at_end=True, is_spent=is_spent) is not None

    def list_promoted(self) -> set[int]:
        """Return the paused trials that went on; their next attempt counts in their place.

        A kill may have come between the next attempt and the study's list of such trials.
        """
        if self.spec.fidelity is None:
            return set()
        trials = self.study.get_trials(deepcopy=False)
        followed = set()
        for trial in trials:
            earlier = trial.user_attrs.get(RETRY_OF)
            if earlier is not None and is_paused(trials[earlier]):
                followed.add(int(earlier))
        listed = set(self.study.user_attrs.get(RETRIED, []))
        if followed - listed:
            self.study.set_user_attr(RETRIED, sorted(listed | followed))
        return followed

    def _next(self, at_end: bool, is_spent: bool) -> FrozenTrial | None:
        epochs = self.epochs()
        if epochs is None:
            return None
        followed = self.list_promoted()
        trials = counted_trials(self.study)
        paused = [t for t in trials if is_paused(t) and t.number not in followed]
        paused = [t for t in paused if t.intermediate_values]
        finished = [t for t in trials if t.state == TrialState.COMPLETE]
        if not paused or (is_spent and finished):
            return None
        sign = 1 if self.spec.directions[0] == "maximize" else -1

        def rank(trial: FrozenTrial) -> float:
            return sign * value_at(trial, epochs)

        best = max(paused, key=lambda t: (rank(t), -t.number))
        allowed = (len(paused) + len(followed)) // self.spec.promote_each
        known = [rank(t) for t in finished if t.intermediate_values]
        if at_end and rank(best) > max(known, default=-math.inf):  # it may be the best of all
            allowed = max(allowed, len(followed) + 1)
        return best if len(followed) < allowed else None


def is_paused(trial: FrozenTrial) -> bool:
    """Return whether a trial has ended at the fidelity, and may go on."""
    return trial.state == TrialState.PRUNED and bool(trial.user_attrs.get(PAUSED))


def value_at(trial: FrozenTrial, epochs: int) -> float:
    """Return the value of a trial after so many epochs, or at its first validation after them."""
    curve = trial.intermediate_values
    later = [epoch for epoch in curve if epoch + 1 >= epochs]
    return curve[min(later)] if later else curve[max(curve)]


def sufficient_epochs(curves: Sequence[Mapping[int, float]]) -> int:
    """Return the fewest epochs from which on the values rank as the last ones do.

    >>> steep = [{0: 0.3, 1: 0.1, 2: 0.1}, {0: 0.2, 1: 0.2, 2: 0.2}, {0: 0.1, 1: 0.3, 2: 0.4}]
    >>> sufficient_epochs(steep)
    2

    Args:
        curves: epoch from 0 -> value, of each trial.
    """
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    last = [curve[max(curve)] for curve in curves]
    enough = shared[-1] + 1
    for epoch in reversed(shared):
        values = [curve[epoch] for curve in curves]
        if len(set(values)) < 2 or not spearmanr(values, last).statistic >= ENOUGH:
            break
        enough = epoch + 1
    return enough
