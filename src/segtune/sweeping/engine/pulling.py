"""Pull trials: claim one, run it under its lease, and claim the next until none is left."""

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from segtune.errors import Interrupted, LeaseLost, StorageError
from segtune.runtime.log import Log
from segtune.runtime.retry import Outage, is_passing, reason_of
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.space import SpaceT
from segtune.sweeping.engine.study import Claim, SweepStudy

LeaseT = TypeVar("LeaseT")
TAKEN_OVER = "was taken over by another worker; this one leaves it"


def pull_trials(
    study: SweepStudy[Any],
    space: SpaceT,
    run: Callable[[Claim[SpaceT]], None],
    stop: StopRequest,
    on_claim: Callable[[], None] = lambda: None,
) -> None:
    """Claim and run trials until no trial is left to start.

    Args:
        run: runs a claimed trial to its end.
        on_claim: called after each claim.

    Raises:
        Interrupted: asked to stop; the running trial returned to the queue.
        StorageError: a store, a server or a disk cannot be used, or not for too long.
    """
    outage = Outage()
    with _small_collections():
        while not stop.requested:
            claim = None
            try:
                claim = study.claim(space)
                if claim is not None:
                    on_claim()
                    run(claim)
                    outage.end()
            except StorageError as error:
                outage.wait(error, stop)
            else:
                if claim is None and study.stop_requested():
                    break
                if claim is None and study.counts().running == 0:
                    return
                if claim is None:
                    time.sleep(0.5)  # a trial of another worker may return to the queue
                    continue
            del claim
            gc.collect()  # a trial's objects refer to each other: its mapped files would stay open
    raise Interrupted(f"sweep {study.spec.name} was stopped.")


@contextmanager
def _small_collections() -> Iterator[None]:
    """Let the collection after each trial look only at the objects that are made from now on.

    A process that has loaded torch holds millions of others: looking at them takes a second.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def run_leased(
    study: SweepStudy[Any],
    trial: optuna.Trial,
    take: Callable[[], AbstractContextManager[LeaseT]],
    work: Callable[[LeaseT], None],
    fail: Callable[[Exception], None],
    say: Log,
    released_on: tuple[type[BaseException], ...] = (Interrupted, StorageError),
) -> None:
    """Work on a trial while its lease is renewed.

    Args:
        take: takes the lease, which is renewed until the block ends.
        work: runs the trial and records its end.
        fail: records that the trial ended with an error.
        released_on: errors that are no fault of the trial: it returns to the queue, and they are
            raised again.

    Raises:
        StorageError: also in place of an error that passes by itself, see `is_passing`.
    """
    try:
        with take() as lease:
            try:
                work(lease)
            except released_on:
                study.release(trial)
                raise
            except (LeaseLost, UpdateFinishedTrialError):
                raise
            except Exception as error:  # a fault of one trial must not end the sweep
                if is_passing(error):  # a full disk or a server that is away is none
                    study.release(trial)
                    raise StorageError(f"trial {trial.number}: {reason_of(error)}") from error
                fail(error)
    except (LeaseLost, UpdateFinishedTrialError):
        say(TAKEN_OVER)


def report(trial: optuna.Trial, value: float, step: int) -> None:
    """Report a value of a trial at a step.

    Raises:
        LeaseLost: another worker ended the trial.
    """
    try:
        with warnings.catch_warnings():
            # a resumed trial repeats the step that its killed worker had reported
            warnings.filterwarnings("ignore", message="The reported value is ignored")
            trial.report(value, step)
    except UpdateFinishedTrialError:
        raise LeaseLost(TAKEN_OVER) from None
