"""The live panel of a sweep in a terminal: a row for each trial that runs, readable at 80 columns."""

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
def live_panel(read: Callable[[], Progress], every: float = 1.0) -> Iterator[Callable[[], None]]:
    """A panel on standard error that the yielded function redraws, at most once in `every` seconds."""
    drawn = 0.0

    def tick() -> None:
        nonlocal drawn
        if time.monotonic() - drawn >= every:
            drawn = time.monotonic()
            live.update(Panel(read()), refresh=True)

    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield tick
        live.update(Panel(read()), refresh=True)


@dataclass(frozen=True)
class Panel:
    """The picture: a table of the trials that run, over the sweep's figures.

    The parameters of a trial stand in its row where the terminal is wide enough, else below the table.
    """

    state: Progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The parts of the picture, one below the other."""
        wide = options.max_width >= _WIDE
        yield self._table(wide)
        if not wide:
            yield from (
                Text(f"trial {row.number}: {row.short_params()}") for row in self.state.running
            )
        yield from (Text(line) for line in _figures(self.state))

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
        for row in self.state.running:
            params = [Text(row.short_params())] if with_params else []
            table.add_row(
                str(row.number), *params, row.phase or "", _epoch(row), _figure(row.miou), _figure(row.best_there),
                _time(row.seconds), _time(row.left),
            )  # fmt: skip
        return table


def _figures(state: Progress) -> list[str]:
    counts = state.counts
    of = f"/{state.total}" if state.total else ""
    first = f"{counts.done}{of} done: {counts.finished} finished, {counts.pruned} pruned, {counts.failed} failed"
    second = [f"best {state.best[1]:.4f} (trial {state.best[0]})"] if state.best else []
    second += [f"to go {clock(state.eta[0])} ± {clock(state.eta[1])}"] if state.eta else []
    second += (
        ["others: best mIoU of another trial by that epoch"]
        if any(r.best_there for r in state.running)
        else []
    )
    return [first, " | ".join(second)] if second else [first]


def _epoch(row: RunningTrial) -> str:
    return f"{row.epoch}/{row.num_epochs}" if row.num_epochs else str(row.epoch)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else clock(seconds)
