"""What could not be sent to the tracking server is kept beside the run, and sent later, once, in its order."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from segtune.runtime.retry import is_passing, with_backoff

Message = Mapping[str, Any]
_PAUSE = 5.0  # seconds between two tries to reach a server that is away


class Outbox:
    """The messages of one run.

    Args:
        path: of the file that keeps what was held back.
        deliver: sends one message; raises when the server is away.
    """

    def __init__(self, path: Path, deliver: Callable[[Message], None]) -> None:
        self.path, self.deliver = path, deliver
        self._tried = 0.0

    def send(self, message: Message) -> None:
        """Sends a message, or keeps it where the server is away or earlier ones still wait."""
        if self.path.exists() and (time.monotonic() - self._tried < _PAUSE or not self.flush()):
            self._keep(message)
            return
        try:
            self.deliver(message)
        except Exception as error:
            if not is_passing(error):
                raise
            self._tried = time.monotonic()
            self._keep(message)

    def flush(self) -> bool:
        """Sends what was kept; returns whether nothing is left."""
        self._tried = time.monotonic()
        if not self.path.exists():
            return True
        with FileLock(f"{self.path}.lock"):
            messages = [
                json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()
            ]
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

    def _keep(self, message: Message) -> None:
        with_backoff(lambda: self._append(message))  # the disk may be what is full

    def _append(self, message: Message) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")

    def rewrite(self, messages: list[Message]) -> None:
        """Puts messages in place of what was kept."""
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text("".join(json.dumps(m) + "\n" for m in messages), encoding="utf-8")
        temporary.replace(self.path)
