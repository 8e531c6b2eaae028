"""The records of a study: names of its attributes, and the number of trials in each state."""

import logging
from dataclasses import asdict, dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("optuna").setLevel(logging.WARNING)

# user attributes of a trial
RUN = "run"
OVERRIDES = "overrides"
ERROR = "error"
DIVERGED = "diverged"
LEASE = "lease"
RETRIED = "retried"  # another attempt replaced the trial; a study lists such trials
RETRY_OF = "retry_of"  # number of the attempt before
SECONDS = "seconds"
PAUSED = "paused"  # it ended at the fidelity of its sweep, and may go on
TO_THE_END = "to_the_end"  # why it is not paused

# user attributes of a study
SPEC = "spec"
WORDS = "words"  # arguments of `segtune sweep`
GAINS_TOO_LITTLE = "gains_too_little"  # why the sweep ended before its total
STOP = "stop"  # whether the workers were asked to end
FOLDER = "folder"  # the working folder in which the sweep was started


@dataclass(frozen=True)
class Counts:
    """Number of trials in each state, without attempts that another one replaced."""

    finished: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0

    @property
    def done(self) -> int:
        """Number of trials that have ended."""
        return self.finished + self.pruned + self.failed

    @property
    def claimed(self) -> int:
        """Number of trials that have ended, run or wait."""
        return self.done + self.running + self.waiting

    def to_json(self) -> dict[str, int]:
        """Return plain data."""
        return asdict(self)


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials except those that another attempt replaced."""
    retried_by_hand = set(study.user_attrs.get(RETRIED, []))
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if not t.user_attrs.get(RETRIED) and t.number not in retried_by_hand]


def count(study: optuna.Study) -> Counts:
    """Count the trials in each state."""
    numbers = dict.fromkeys(TrialState, 0)
    for trial in counted_trials(study):
        numbers[trial.state] += 1
    return Counts(
        finished=numbers[TrialState.COMPLETE],
        pruned=numbers[TrialState.PRUNED],
        failed=numbers[TrialState.FAIL],
        running=numbers[TrialState.RUNNING],
        waiting=numbers[TrialState.WAITING],
    )


def last_line(trial: FrozenTrial) -> str:
    """Return the last line of a failed trial's error."""
    lines = str(trial.user_attrs.get(ERROR, "")).strip().splitlines()
    return lines[-1] if lines else "no reason recorded"


def seconds_of(trial: FrozenTrial) -> float | None:
    """Return the duration of a trial's last attempt; None while it runs.

    The worker's monotonic clock measures it. Trials of version 0.1.0 have wall-clock times only.
    """
    if SECONDS in trial.user_attrs:
        return float(trial.user_attrs[SECONDS])
    return None if trial.duration is None else max(0.0, trial.duration.total_seconds())
