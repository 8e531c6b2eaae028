"""The time budget of a sweep: seconds in which a worker was alive.

Each claim, renewal of a lease and end of a trial is a sign of life. The time between two signs
counts if it is shorter than a lease. Hours in which no worker ran do not count, nor does a step of
the wall clock.
"""

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.sweeping.engine.records import LEASE, RETRY_OF, counted_trials, seconds_of

_SPENT, _LAST = "spent", "last_sign"  # user attributes of a study
_MIN_GAP = 1.0  # seconds between two signs of life that are written


class Budget:
    """The seconds that a study has spent.

    Args:
        lease: seconds after which a worker without a sign of life is taken for dead.
    """

    def __init__(self, study: optuna.Study, lease: float) -> None:
        self.study, self.lease = study, lease

    def begin(self, now: float) -> None:
        """Start a session: time since the last sign of life counts only if a worker is alive."""
        if not self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.set_user_attr(_SPENT, self.spent())
            self.study.set_user_attr(_LAST, now)

    def sign_of_life(self, now: float) -> None:
        """Count the time since the last sign of life; the caller holds the study's lock."""
        last = self.study.user_attrs.get(_LAST)
        if last is None or not 0 <= now - last < _MIN_GAP:
            self.study.set_user_attr(_SPENT, self.spent(now))
            self.study.set_user_attr(_LAST, now)

    def spent(self, now: float | None = None) -> float:
        """Return the seconds up to the last sign of life, or up to `now`."""
        recorded = self.study.user_attrs.get(_SPENT)
        if recorded is None:
            return _spent_before_signs(self.study)
        last = self.study.user_attrs.get(_LAST)
        if now is None or last is None or not 0 <= now - last <= self.lease:
            return float(recorded)
        return float(recorded) + now - float(last)


def trial_seconds(study: optuna.Study) -> list[float]:
    """Return the duration of each trial that finished at its first attempt."""
    trials = [
        trial
        for trial in counted_trials(study)
        if trial.state == TrialState.COMPLETE and RETRY_OF not in trial.user_attrs
    ]
    durations = [seconds_of(trial) for trial in trials]
    return [seconds for seconds in durations if seconds is not None]


def _spent_before_signs(study: optuna.Study) -> float:
    """Return the seconds in which a trial ran, for a study that version 0.1.0 began."""
    spans = [_span(trial) for trial in study.get_trials(deepcopy=False)]
    total, end = 0.0, 0.0
    for first, last in sorted(span for span in spans if span is not None):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def _span(trial: FrozenTrial) -> tuple[float, float] | None:
    """Return the start and end of a trial that has ended, in seconds since 1970."""
    if not trial.datetime_start or not trial.datetime_complete:
        return None
    start, end = trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()
    expires = trial.user_attrs.get(LEASE, {}).get("expires")
    # another worker may have ended a dead worker's trial hours later: the lease bounds its life
    return start, end if expires is None else min(end, float(expires))
