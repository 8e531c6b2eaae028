"""Processes that pull trials: forked children, which are replaced when they die.

A child that dies (killed, out of memory, a crash in native code) costs the trial's current step.
The libraries and whatever the parent has loaded stay in the children's memory between trials.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any

from segtune.errors import Interrupted, SegtuneError
from segtune.runtime.log import Log
from segtune.runtime.retry import is_passing, lasting
from segtune.runtime.signals import StopRequest

Work = Callable[[Callable[[], None]], None]
"""Pulls trials in a child; calls its argument after each claim."""

# children that die so many times in a row before they claim a trial are not replaced any more
_MAX_EARLY_DEATHS = 20


def supervise(
    count: int,
    work: Callable[[int], Work],
    stop: StopRequest,
    say: Log,
    is_orphaned: Callable[[], bool] = lambda: False,
) -> int:
    """Keep children at work until no trial is left to start, or until a stop is requested.

    Args:
        count: number of children.
        work: returns the work of the child with a number; the child raises a SegtuneError for a
            fault of every trial.
        say: prints that a child died.
        is_orphaned: whether the process that waits for this one is gone.

    Returns:
        The exit code: 0, Interrupted's, or that of the fault of every trial.
    """
    children = _Children(work, stop, say)
    is_passed_on = False
    try:
        for number in range(count):
            if is_orphaned():
                stop.requested = True
            children.start(number)
        while children.processes:
            stop.requested = stop.requested or is_orphaned()
            if stop.requested and not is_passed_on:
                is_passed_on = True
                children.terminate()
            children.collect()
            children.wait(0.1)
    except KeyboardInterrupt:  # the second Ctrl-C
        children.kill()
        return Interrupted.exit_code
    return children.code


class _Children:
    """The running children by their number, and the exit code of them all."""

    def __init__(self, work: Callable[[int], Work], stop: StopRequest, say: Log) -> None:
        # a forked child is warm at once; where a fork is unsafe, each child loads the libraries
        self._context: Any = multiprocessing.get_context(
            "fork" if sys.platform == "linux" else "spawn"
        )
        self._work, self._stop, self._say = work, stop, say
        self._early_deaths = 0
        self._has_claimed: dict[int, Event] = {}
        self.processes: dict[int, BaseProcess] = {}
        self.code = 0

    def start(self, number: int) -> None:
        """Start a child, unless a stop is requested."""
        # a signal that comes during the fork sets this flag, and no child hears it
        if self._stop.requested:
            self.code = self.code or Interrupted.exit_code
            return
        self._has_claimed[number] = self._context.Event()
        args = (self._work(number), self._has_claimed[number], os.getpid(), self._stop)
        self.processes[number] = self._context.Process(target=_run_child, args=args)
        self.processes[number].start()

    def collect(self) -> None:
        """Remove the children that ended; replace those that died."""
        for number, process in list(self.processes.items()):
            if process.is_alive():
                continue
            del self.processes[number]
            code = process.exitcode or 0
            if code < 0 and not self._stop.requested:
                self._replace(number, code)
            elif code in (0, Interrupted.exit_code) or code < 0:
                self.code = self.code or (Interrupted.exit_code if code else 0)
            else:  # a fault of every trial
                self._end(code)

    def _replace(self, number: int, code: int) -> None:
        has_claimed = self._has_claimed[number].is_set()
        self._early_deaths = 0 if has_claimed else self._early_deaths + 1
        if self._early_deaths == _MAX_EARLY_DEATHS:
            self._say(f"died {_MAX_EARLY_DEATHS} times in a row before its first trial")
            self._end(SegtuneError.exit_code)
            return
        name = signal.Signals(-code).name
        self._say(f"its process died ({name}); another one resumes its trial")
        self.start(number)

    def _end(self, code: int) -> None:
        self.code = code
        self._stop.requested = True

    def wait(self, seconds: float) -> None:
        """Wait until a child may have ended."""
        if self.processes:
            next(iter(self.processes.values())).join(seconds)

    def terminate(self) -> None:
        """Ask the children to return their trials to the queue and end."""
        for process in self.processes.values():
            process.terminate()

    def kill(self) -> None:
        """End the children at once."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.join()


def _run_child(work: Work, has_claimed: Event, parent: int, stop: StopRequest) -> None:
    """Pull trials in the child; end it with an exit code of the command line.

    Args:
        stop: the parent's. The fork inherits its handler, which hears a signal that comes before
            the child has its own handler.
    """
    threading.Thread(target=_stop_when_orphaned, args=(parent, stop), daemon=True).start()
    with stop.listening():
        try:
            work(has_claimed.set)
        except (Interrupted, KeyboardInterrupt):
            sys.exit(Interrupted.exit_code)
        except SegtuneError as error:
            sys.exit(print_error(error))
        except Exception as error:
            if not is_passing(error):
                raise
            # the study is out of reach, for too long or at a stop request
            sys.exit(Interrupted.exit_code if stop.requested else print_error(lasting(error)))


def _stop_when_orphaned(parent: int, stop: StopRequest) -> None:
    """Request a stop when the parent is gone, so that the child ends after its step."""
    while os.getppid() == parent:
        time.sleep(0.5)
    if not stop.requested:  # a second signal would end the child before it returns its trial
        os.kill(os.getpid(), signal.SIGTERM)


def print_error(error: SegtuneError) -> int:
    """Print an error as the command line does; return its exit code."""
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return error.exit_code
