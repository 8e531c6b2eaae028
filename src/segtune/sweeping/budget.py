"""A sweep's budget: the time in which a worker lived, counted by signs of life and not by the clock on the wall.

Each claim, renewal of a lease and end of a trial is a sign of life. The time between two of them counts if it is
shorter than a lease. Hours in which all workers were dead do not count, and neither does a step of the clock.
"""

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.sweeping.records import LEASE, RETRY_OF, counted_trials, seconds_of

_SPENT, _LAST = "spent", "last_sign"
_DENSE = 1.0  # seconds: signs of life that follow each other more closely are not all written


class Budget:
    """The time that a study has spent.

    Args:
        lease: seconds for which a sign of life is believed.
    """

    def __init__(self, study: optuna.Study, lease: float) -> None:
        self.study, self.lease = study, lease

    def begin(self, now: float) -> None:
        """Starts a session: what passed since the last sign of life does not count, unless a worker is alive."""
        if not self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.set_user_attr(_SPENT, self.spent())
            self.study.set_user_attr(_LAST, now)

    def sign_of_life(self, now: float) -> None:
        """Counts the time since the last sign of life; called by one process at a time."""
        last = self.study.user_attrs.get(_LAST)
        if last is None or not 0 <= now - last < _DENSE:
            self.study.set_user_attr(_SPENT, self.spent(now))
            self.study.set_user_attr(_LAST, now)

    def spent(self, now: float | None = None) -> float:
        """Seconds that count, up to now if a time is given."""
        recorded = self.study.user_attrs.get(_SPENT)
        if recorded is None:
            return _spent_before(self.study)
        last = self.study.user_attrs.get(_LAST)
        if now is None or last is None or not 0 <= now - last <= self.lease:
            return float(recorded)
        return float(recorded) + now - float(last)


def trial_seconds(study: optuna.Study) -> list[float]:
    """What each trial took that finished at its first attempt."""
    whole = [
        t
        for t in counted_trials(study)
        if t.state == TrialState.COMPLETE and RETRY_OF not in t.user_attrs
    ]
    return [s for s in map(seconds_of, whole) if s is not None]


def _spent_before(study: optuna.Study) -> float:
    """For a study that version 0.1.0 began: seconds in which at least one trial was under way."""
    total, end = 0.0, 0.0
    for first, last in sorted(filter(None, map(_span, study.get_trials(deepcopy=False)))):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def _span(trial: FrozenTrial) -> tuple[float, float] | None:
    if not trial.datetime_start or not trial.datetime_complete:
        return None
    lease = trial.user_attrs.get(LEASE, {}).get("expires")
    last = trial.datetime_complete.timestamp()
    # a dead worker's trial was ended by whoever found it; its lease says until when it may have lived
    return trial.datetime_start.timestamp(), last if lease is None else min(last, float(lease))
