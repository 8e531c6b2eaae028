"""A sweep stops when its last trials failed with the same error."""

import re
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from segtune.errors import SegtuneError
from segtune.sweeping.engine.records import DIVERGED, ERROR, last_line

_SAME_ERRORS = 5


def check_repeated_error(trials: Sequence[FrozenTrial], sweep: str, retry: str) -> None:
    """Refuse to start another trial after five failures in a row with the same error.

    Args:
        retry: the command that enqueues the failed trials again.

    Raises:
        SegtuneError: the next trial would fail as well.
    """
    ended = sorted((t for t in trials if t.state.is_finished()), key=_end_time)
    last = [_signature(t) for t in ended[-_SAME_ERRORS:]]
    if len(last) == _SAME_ERRORS and last[0] is not None and len(set(last)) == 1:
        raise SegtuneError(
            f"sweep '{sweep}': the last {_SAME_ERRORS} trials failed with the same error, and the "
            f"next would fail as well: {last_line(ended[-1])} After you fixed it, run: {retry}"
        )


def _end_time(trial: FrozenTrial) -> float:
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0


def _signature(trial: FrozenTrial) -> str | None:
    """Return the last line of a trial's error with its numbers masked; None without an error.

    A diverged loss is a property of one configuration, so it counts as no error here.
    """
    if ERROR not in trial.user_attrs or trial.user_attrs.get(DIVERGED):
        return None
    return re.sub(r"\d+", "#", last_line(trial))
