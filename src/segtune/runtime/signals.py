"""Ctrl-C and SIGTERM as a request: the step at hand is finished, what was done is kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Set by the first Ctrl-C or SIGTERM: the run ends after the current step; a second one ends it at once."""

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Catches both signals while the block runs; only possible in the main thread."""
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
        """While the block runs there is no step to finish: a request, one from before too, ends it where it is.

        Raises:
            KeyboardInterrupt: that is how it ends.
        """
        if self.requested:
            raise KeyboardInterrupt
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        before, self.requested = self.requested, True
        if before or self._at_once:
            raise KeyboardInterrupt
