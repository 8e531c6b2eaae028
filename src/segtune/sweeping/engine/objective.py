"""Run a function as the objective of one trial."""

import math
import os
import signal
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from optuna.exceptions import TrialPruned
from optuna.trial import TrialState

from segtune.errors import ConfigError, Diverged, Interrupted, SegtuneError
from segtune.runtime.log import Log
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.lease import Lease
from segtune.sweeping.engine.pulling import run_leased
from segtune.sweeping.engine.records import DIVERGED, ERROR, RUN
from segtune.sweeping.engine.running import Trial, running
from segtune.sweeping.engine.search_settings import SearchSettings
from segtune.sweeping.engine.space import FlatSpace
from segtune.sweeping.engine.study import Claim, SweepStudy

Objective = Callable[[Trial], Any]
"""Returns the value of a trial, or one value for each direction."""


def run_objective(
    study: SweepStudy[SearchSettings],
    claim: Claim[FlatSpace],
    objective: Objective,
    stop: StopRequest,
    say: Log,
) -> None:
    """Run a claimed trial to its end, or return it to the queue if `stop` asks for that.

    Raises:
        Interrupted: asked to stop; the trial returned to the queue.
        StorageError: the study cannot be reached.
    """

    def renewed() -> None:
        # a request of another process; in this one, the signal interrupts the function
        if study.stop_requested() and not stop.requested:
            os.kill(os.getpid(), signal.SIGTERM)

    run_leased(
        study,
        claim.trial,
        partial(Lease, claim.trial, study.holder, study.spec.lease, renewed),
        lambda lease: _work(study, claim, objective, stop, lease, say),
        lambda error: _fail(study, claim, error, say),
        say,
    )


def _work(
    study: SweepStudy[SearchSettings],
    claim: Claim[FlatSpace],
    objective: Objective,
    stop: StopRequest,
    lease: Lease,
    say: Log,
) -> None:
    number = _number(study, claim)
    folder = study.folder / "trials" / str(number)
    can_prune = len(study.spec.directions) == 1
    trial = Trial(claim.trial, lease, number, folder, can_prune)
    trial.overrides, trial.params = claim.overrides, claim.space.values_of(claim.trial.params)
    say(f"trial {number}: {'resumed' if trial.resumed else 'started'}: {_words(claim)}")
    try:
        with running(trial), stop.at_once():
            returned = objective(trial)
        is_pruned = trial.was_pruned
    except TrialPruned:
        is_pruned = True
    except KeyboardInterrupt:
        raise Interrupted(f"trial {number} was stopped.") from None
    lease.check()
    if is_pruned:
        study.finish(claim.trial, state=TrialState.PRUNED)
        say(f"trial {number}: pruned")
        return
    values = checked_values(returned, len(study.spec.directions))
    study.finish(claim.trial, values)
    say(f"trial {number}: {', '.join(f'{value:.6g}' for value in values)}")


def _number(study: SweepStudy[SearchSettings], claim: Claim[FlatSpace]) -> int:
    """Return the number of the trial, which its later attempts share."""
    if claim.run is not None:
        return int(claim.run)
    with study.storage.exclusive():
        trials = study.study.get_trials(deepcopy=False)
        number = len({trial.user_attrs[RUN] for trial in trials if RUN in trial.user_attrs})
        claim.trial.set_user_attr(RUN, str(number))
    return number


def checked_values(returned: Any, count: int) -> list[float]:
    """Return what a function returned as finite numbers, one for each direction.

    >>> checked_values(1, 1), checked_values((0.5, 2), 2)
    ([1.0], [0.5, 2.0])

    Raises:
        ConfigError: it is something else.
        Diverged: a number is not finite.
    """
    values = list(returned) if isinstance(returned, tuple | list) else [returned]
    if len(values) != count:
        raise ConfigError(
            f"the function returned {returned!r}, but the search has {count} directions: return "
            f"{'a number' if count == 1 else f'{count} numbers'}."
        )
    numbers = []
    for value in values:
        try:
            numbers.append(float(value))
        except (TypeError, ValueError):
            raise ConfigError(
                f"the function returned {value!r}; return the objective, a number."
            ) from None
        if not math.isfinite(numbers[-1]):
            raise Diverged(f"the function returned {value}, which is not finite.")
    return numbers


def _fail(
    study: SweepStudy[SearchSettings], claim: Claim[FlatSpace], error: Exception, say: Log
) -> None:
    reason = str(error) if isinstance(error, SegtuneError) else traceback.format_exc()[-4000:]
    say(f"failed: {reason.strip().splitlines()[-1]}")
    claim.trial.set_user_attr(ERROR, reason)
    claim.trial.set_user_attr(DIVERGED, isinstance(error, Diverged))
    study.finish(claim.trial, state=TrialState.FAIL)


def _words(claim: Claim[FlatSpace]) -> str:
    return " ".join(claim.overrides[len(claim.space.fixed) :]) or "no searched keys"
