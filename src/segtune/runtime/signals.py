"""Ctrl-C and SIGTERM as a request to stop after the current step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """A request to stop, made by Ctrl-C or SIGTERM.

    The first signal asks the run to end after the current step. A second one ends it at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Catch both signals while the block runs; this works in the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

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
