"""Keep the messages that cannot be sent to the tracking server, and send them later, in order."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from segtune.runtime.atomic import atomic_file
from segtune.runtime.retry import is_passing, with_backoff

Message = Mapping[str, Any]
_PAUSE = 5.0  # seconds between two attempts to reach the server


class Outbox:
    """The messages of one run.

    Args:
        path: file of the messages that wait.
        deliver: sends one message; raises an exception if the server cannot be reached.
    """

    def __init__(self, path: Path, deliver: Callable[[Message], None]) -> None:
        self.path, self.deliver = path, deliver
        self._last_attempt = 0.0

    def send(self, message: Message) -> None:
        """Send a message; keep it if the server is unreachable or earlier messages still wait."""
        if self.path.exists():
            paused = time.monotonic() - self._last_attempt < _PAUSE
            if paused or not self.flush():
                self._keep(message)
                return
        try:
            self.deliver(message)
        except Exception as error:
            if not is_passing(error):
                raise
            self._last_attempt = time.monotonic()
            self._keep(message)

    def flush(self) -> bool:
        """Send the messages that wait; return whether none is left."""
        self._last_attempt = time.monotonic()
        if not self.path.exists():
            return True
        with FileLock(f"{self.path}.lock"):
            lines = self.path.read_text(encoding="utf-8").splitlines()
            messages = [json.loads(line) for line in lines]
            while messages:
                try:
                    self.deliver(messages[0])
                except Exception as error:
                    if not is_passing(error):
                        raise
                    self.rewrite(messages)
                    return False
                del messages[0]
            self.path.unlink()
        return True

    def rewrite(self, messages: list[Message]) -> None:
        """Replace the messages that wait."""
        lines = "".join(json.dumps(m) + "\n" for m in messages)
        with atomic_file(self.path, shared=True) as unfinished:
            unfinished.write_text(lines, encoding="utf-8")

    def _keep(self, message: Message) -> None:
        with_backoff(lambda: self._append(message))  # a full disk may have space again soon

    def _append(self, message: Message) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")
