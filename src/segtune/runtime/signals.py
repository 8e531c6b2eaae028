"""Ctrl-C, SIGTERM and Slurm's signals as a request to stop after the current step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C, the end of a service, and the two with which Slurm announces that a job must end."""

_HEARD: list["StopRequest"] = []
"""The requests of this process that may be made now, the innermost last."""


def is_stop_requested() -> bool:
    """Whether somebody asked this process to stop; long waits look at it."""
    return any(request.requested for request in _HEARD)


class StopRequest:
    """A request to stop, made by one of SIGNALS.

    The first signal asks the run to end after the current step. A second one ends it at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        self._is_listening = False

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Catch the signals while the block runs; this works in the main thread alone."""
        _HEARD.append(self)
        previous: dict[int, Any] = {}
        was_listening = self._is_listening
        if threading.current_thread() is threading.main_thread():
            previous = {number: signal.getsignal(number) for number in SIGNALS}
            self._is_listening = True
            self.take_over()
        try:
            yield self
        finally:
            _HEARD.remove(self)
            self._is_listening = was_listening
            for number, handler in previous.items():
                signal.signal(number, handler)

    def take_over(self) -> None:
        """Catch the signals again after other code took them; does nothing outside `listening`."""
        if self._is_listening:
            for number in SIGNALS:
                signal.signal(number, self._on_signal)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a request interrupt the block, since it has no steps to finish.

        Raises:
            KeyboardInterrupt: a signal came during the block or before it.
        """
        if self.requested:
            raise KeyboardInterrupt
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        is_repeated, self.requested = self.requested, True
        if is_repeated or self._at_once:
            raise KeyboardInterrupt
