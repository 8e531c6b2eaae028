"""How far long work is: a bar with rate and time left on a terminal, a line every few seconds elsewhere."""

import sys
import time
from typing import Any

from segtune.runtime.log import Log

_EVERY = 5.0  # seconds between lines


class ProgressReporter:
    """Told (what, done, total), it shows it; `say` prints a line without breaking the bar."""

    def __init__(self, say: Log, bar: bool | None = None) -> None:
        self._say = say
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, tuple[float, int]] = {}
        self._last = time.monotonic()
        if sys.stderr.isatty() if bar is None else bar:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            text = (
                TextColumn("{task.description}"),
                TextColumn("{task.speed:.1f}/s", justify="right"),
            )
            columns = (text[0], BarColumn(), MofNCompleteColumn(), text[1], TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))

    def __enter__(self) -> "ProgressReporter":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Prints a line."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            self._say(line)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Shows that `done` of `total` are done, and when the rest will be."""
        now = time.monotonic()
        start, first = self._started.setdefault(what, (now, done))
        if self._bar is not None:
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, total=total, completed=first)
            self._bar.update(self._tasks[what], completed=done, total=total)
        elif now - self._last >= _EVERY or done == total:
            rate = (done - first) / (now - start) if now > start else 0.0
            left = (
                f", {rate:.1f}/s, {(total - done) / rate:.0f} s left"
                if rate and done < total
                else ""
            )
            self._say(f"{done}/{total} {what}{left}")
            self._last = now
