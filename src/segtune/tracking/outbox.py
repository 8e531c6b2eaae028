"""Keep the messages that cannot be sent to the tracking server, and send them later, in order.

The file holds one message per line. A line that was sent is marked in place, so that a kill or a
full disk at any moment leaves at most one message that is sent again, which the server takes as
the same one. A message that the server refuses is set aside, and the others go on.
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from segtune.errors import ConfigError, StorageError
from segtune.runtime.lines import append_whole
from segtune.runtime.log import Log, to_stderr
from segtune.runtime.retry import is_passing, reason_of, with_backoff

Message = Mapping[str, Any]
_SENT = b"-"  # replaces the first character of a line
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 900.0  # seconds between two attempts to reach the server
_PAUSE_SHARE = 19  # a pause is so many times as long as the attempt before, which may time out


class Outbox:
    """The messages of one run.

    Args:
        path: file of the messages that wait.
        deliver: sends one message. It raises StorageError if the store fails, ConfigError if the
            run was deleted; any other error means that this message is refused.
        say: prints a line for an outage, and for a message that was refused.
    """

    def __init__(
        self, path: Path, deliver: Callable[[Message], None], say: Log = to_stderr
    ) -> None:
        self.path, self.deliver, self.say = path, deliver, say
        self._pause, self._next_attempt = 0.0, 0.0

    @property
    def refused(self) -> Path:
        """File of the messages that the server refused, each with the reason."""
        return self.path.with_suffix(".refused.jsonl")

    def send(self, message: Message) -> None:
        """Send a message; keep it if the store fails or earlier messages still wait.

        Raises:
            StorageError: the store will not work again by itself; the message is kept.
        """
        if self.path.is_file() and (time.monotonic() < self._next_attempt or not self.flush()):
            self._keep(message)
            return
        try:
            is_sent = self._try(message)
        except StorageError:
            with suppress(OSError):
                self._keep(message)
            raise
        if not is_sent:
            self._keep(message)

    def flush(self) -> bool:
        """Send the messages that wait; return whether none is left.

        Raises:
            StorageError: the store will not work again by itself.
            ConfigError: the run was deleted; its messages wait until it is restored.
        """
        if not self.path.is_file():
            return True
        with self._lock(), self.path.open("r+b", buffering=0) as file:
            for start, line in _waiting(file.read()):
                if not self._send_line(line):
                    return False
                file.seek(start)
                file.write(_SENT)
            self.path.unlink()
        return True

    def waiting(self) -> list[Message]:
        """Return the messages that wait, without damaged ones."""
        if not self.path.is_file():
            return []
        messages = []
        for _, line in _waiting(self.path.read_bytes()):
            with suppress(ValueError):
                messages.append(json.loads(line))
        return [message for message in messages if isinstance(message, Mapping)]

    def _send_line(self, line: bytes) -> bool:
        """Send the message of a line, or set it aside; return False to try again later."""
        try:
            return self._try(json.loads(line))
        except (StorageError, ConfigError):
            raise
        except Exception as error:  # of this message: a server refuses for many reasons
            self._set_aside(line, error)
            return True

    def _try(self, message: Message) -> bool:
        """Send a message; return False if the store fails for a reason that passes."""
        started = time.monotonic()
        try:
            self.deliver(message)
        except Exception as error:
            if not is_passing(error):
                raise
            now = time.monotonic()
            if not self._pause:  # one line for each outage
                self.say(
                    f"run {self.path.parent.name}: {reason_of(error)}. Its records wait in "
                    f"'{self.path}', and are sent later"
                )
            pause = max(_FIRST_PAUSE, 2 * self._pause, _PAUSE_SHARE * (now - started))
            self._pause = min(_LONGEST_PAUSE, pause)
            self._next_attempt = now + self._pause
            return False
        self._pause, self._next_attempt = 0.0, 0.0
        return True

    def _keep(self, message: Message) -> None:
        line = json.dumps({"id": uuid.uuid4().hex, **message}).encode() + b"\n"

        def append() -> None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock():
                self.path.touch()
                append_whole(self.path, line)

        with_backoff(append)  # a full disk may have space again soon

    def _set_aside(self, line: bytes, error: Exception) -> None:
        """Write a refused message, with the reason, to a file of its own; tell the user."""
        reason = f"{type(error).__name__}: {reason_of(error)}"
        text = line.decode(errors="replace")
        row = json.dumps({"message": text, "reason": reason}).encode() + b"\n"

        def append() -> None:
            self.refused.touch()
            if row not in self.refused.read_bytes():  # else a kill came before the mark
                append_whole(self.refused, row)

        with_backoff(append)
        self.say(
            f"run {self.path.parent.name}: a message cannot be recorded ({reason}); it is kept in "
            f"'{self.refused}', and the others are sent"
        )

    def _lock(self) -> FileLock:
        return FileLock(f"{self.path}.lock")


def _waiting(content: bytes) -> list[tuple[int, bytes]]:
    """Return (offset, line) of the complete lines that were not sent."""
    lines, start = [], 0
    for line in content.split(b"\n")[:-1]:
        if line and not line.startswith(_SENT):
            lines.append((start, line))
        start += len(line) + 1
    return lines
