"""The live panel of a sweep in a terminal: one row for each running trial, for 80 columns."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from segtune.sweeping.progress import Progress, RunningTrial, clock

_WIDE = 110  # columns


@contextmanager
def live_panel(
    read_progress: Callable[[], Progress], every: float = 1.0
) -> Iterator[Callable[[], None]]:
    """Show a panel on standard error; the yielded function redraws it.

    Args:
        every: seconds between two drawings at least.
    """
    drawn_at = 0.0

    def tick() -> None:
        nonlocal drawn_at
        if time.monotonic() - drawn_at >= every:
            drawn_at = time.monotonic()
            live.update(Panel(read_progress()), refresh=True)

    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield tick
        live.update(Panel(read_progress()), refresh=True)


@dataclass(frozen=True)
class Panel:
    """The panel at one moment: a table of the running trials above the sweep's figures.

    A wide terminal shows a trial's parameters in its row, a narrow one below the table.
    """

    state: Progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts of the panel from top to bottom."""
        is_wide = options.max_width >= _WIDE
        yield self._table(with_params=is_wide)
        if not is_wide:
            for trial in self.state.running:
                yield Text(f"trial {trial.number}: {trial.short_params()}")
        for line in _figures(self.state):
            yield Text(line)

    def _table(self, with_params: bool) -> Table:
        table = Table(
            title=escape(f"sweep {self.state.name}"),
            title_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("trial", justify="right", no_wrap=True)
        if with_params:
            table.add_column("parameters", overflow="fold", ratio=1)
        table.add_column("phase", no_wrap=True)
        for name in ("epoch", "val mIoU", "others", "time", "left"):
            table.add_column(name, justify="right", no_wrap=True)
        for trial in self.state.running:
            params = [Text(trial.short_params())] if with_params else []
            cells = [
                trial.phase or "",
                _epoch(trial),
                _score(trial.miou),
                _score(trial.best_there),
                _time(trial.seconds),
                _time(trial.left),
            ]
            table.add_row(str(trial.number), *params, *cells)
        return table


def _figures(state: Progress) -> list[str]:
    counts = state.counts
    done = f"{counts.done}/{state.total}" if state.total else str(counts.done)
    first = (
        f"{done} done: {counts.finished} finished, {counts.pruned} pruned, {counts.failed} failed"
    )
    second = []
    if state.best:
        second.append(f"best {state.best[1]:.4f} (trial {state.best[0]})")
    if state.eta:
        second.append(f"to go {clock(state.eta[0])} ± {clock(state.eta[1])}")
    if any(trial.best_there for trial in state.running):
        second.append("others: best mIoU of another trial by that epoch")
    return [first, " | ".join(second)] if second else [first]


def _epoch(trial: RunningTrial) -> str:
    return f"{trial.epoch}/{trial.num_epochs}" if trial.num_epochs else str(trial.epoch)


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else clock(seconds)
