"""Progress of long work: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from typing import Any

from segtune.runtime.log import Log

_SECONDS_BETWEEN_LINES = 5.0


class ProgressReporter:
    """Shows the progress of one or several tasks; call it with (task, done, total).

    Args:
        bar: draw bars; by default if the error stream is a terminal.
    """

    def __init__(self, say: Log, bar: bool | None = None) -> None:
        self._say = say
        self._started: dict[str, tuple[float, int]] = {}  # of the first call of a task
        self._last_line = time.monotonic()
        self._bar_ids: dict[str, Any] = {}
        self._bar: Any = None
        if sys.stderr.isatty() if bar is None else bar:
            self._bar = _rich_progress()

    def __enter__(self) -> "ProgressReporter":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the bar; it stays visible."""
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            self._say(line)

    def __call__(self, task: str, done: int, total: int) -> None:
        """Show that `done` of `total` items are done, with the rate and the remaining time."""
        now = time.monotonic()
        started, first_done = self._started.setdefault(task, (now, done))
        if self._bar is not None:
            if task not in self._bar_ids:
                self._bar_ids[task] = self._bar.add_task(task, total=total, completed=first_done)
            self._bar.update(self._bar_ids[task], completed=done, total=total)
        elif now - self._last_line >= _SECONDS_BETWEEN_LINES or done == total:
            rate = (done - first_done) / (now - started) if now > started else 0.0
            pace = ""
            if rate and done < total:
                pace = f", {rate:.1f}/s, {(total - done) / rate:.0f} s left"
            self._say(f"{done}/{total} {task}{pace}")
            self._last_line = now


def _rich_progress() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.speed:.1f}/s", justify="right"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
