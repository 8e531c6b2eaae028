"""How far a sweep is: the figures of one moment, as data, as lines, and as a live panel in a terminal."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from segtune.commands import command
from segtune.sweeping.records import WORDS, Counts, count, counted_trials, last_line, seconds_of

NUM_EPOCHS = "num_epochs"
_SHOWN = 5  # failed trials, in the lines for people


@dataclass(frozen=True)
class RunningTrial:
    """A trial under way.

    Attributes:
        epoch: validated so far, from 1; 0 before the first.
        miou: of that epoch; None before the first.
        best_there: the best mIoU of any other trial up to that epoch.
    """

    number: int
    epoch: int
    num_epochs: int | None
    miou: float | None
    best_there: float | None


@dataclass(frozen=True)
class Progress:
    """A sweep at one moment.

    Attributes:
        total: trials asked for; None where a budget decides.
        best: number and mIoU of the best finished trial.
        errors: number and reason, in one line, of the failed trials.
        eta: seconds to go, and their standard deviation; None before two trials have ended.
        words: that the sweep was started with: its file and the overrides.
    """

    name: str
    counts: Counts
    total: int | None
    best: tuple[int, float] | None
    running: tuple[RunningTrial, ...]
    errors: tuple[tuple[int, str], ...]
    eta: tuple[float, float] | None
    words: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command that goes on with it."""
        return command("sweep", *self.words)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sweep": self.name,
            "trials": self.counts.to_json(),
            "n_trials": self.total,
            "best": None if self.best is None else {"trial": self.best[0], "val/miou": self.best[1]},
            "errors": [{"trial": n, "error": e} for n, e in self.errors],
            "running": [asdict(r) for r in self.running],
            "eta_seconds": None if self.eta is None else {"mean": self.eta[0], "std": self.eta[1]},
        }

    def lines(self) -> list[str]:
        """For people."""
        counts = self.counts
        of = f" of {self.total}" if self.total else ""
        head = f"sweep {self.name}: {counts.done}{of} done ({counts.finished} finished, {counts.pruned} pruned, "
        head += f"{counts.failed} failed), {counts.running} running, {counts.waiting} waiting"
        rows = [head]
        if self.best:
            rows.append(f"best: trial {self.best[0]}, val mIoU {self.best[1]:.4f}")
        rows += [f"trial {r.number}: {_epoch(r)}, {_miou(r)}" for r in self.running]
        rows += [f"trial {n} failed: {e}" for n, e in self.errors[-_SHOWN:]]
        if self.eta:
            rows.append(f"to go: {_clock(self.eta[0])} ± {_clock(self.eta[1])}")
        return rows


def progress(study: optuna.Study, n_trials: int | None, workers: int) -> Progress:
    """Reads how far a sweep is."""
    trials, counts = counted_trials(study), count(study)
    finished = [(t.number, t.value) for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    best = max(finished, key=lambda row: row[1], default=None)
    running = tuple(_running(t, trials) for t in trials if t.state == TrialState.RUNNING)
    return Progress(
        study.study_name,
        counts,
        n_trials,
        best,
        running,
        tuple((t.number, last_line(t)) for t in trials if t.state == TrialState.FAIL),
        _eta(trials, counts, n_trials, workers),
        tuple(study.user_attrs.get(WORDS, [study.study_name])),
    )


def _running(trial: FrozenTrial, trials: list[FrozenTrial]) -> RunningTrial:
    last = max(trial.intermediate_values, default=-1)
    others = [
        max((v for e, v in t.intermediate_values.items() if e <= last), default=None)
        for t in trials
        if t.number != trial.number
    ]
    best = max((v for v in others if v is not None), default=None)
    num_epochs = trial.user_attrs.get(NUM_EPOCHS)
    return RunningTrial(trial.number, last + 1, num_epochs, trial.intermediate_values.get(last), best)


def _eta(trials: list[FrozenTrial], counts: Counts, total: int | None, workers: int) -> tuple[float, float] | None:
    """Trials to go at the mean duration of those that ended; one that runs counts as half."""
    ended = [s for s in (seconds_of(t) for t in trials if t.state.is_finished()) if s is not None]
    if total is None or len(ended) < 2 or counts.done >= total:
        return None
    left = max(0.0, total - counts.done - counts.running / 2)
    return left * statistics.mean(ended) / workers, left**0.5 * statistics.stdev(ended) / workers


@contextmanager
def live_panel(read: Callable[[], Progress], every: float = 1.0) -> Iterator[Callable[[], None]]:
    """A panel on standard error that the yielded function redraws, at most once in `every` seconds."""
    drawn = 0.0

    def tick() -> None:
        nonlocal drawn
        if time.monotonic() - drawn >= every:
            drawn = time.monotonic()
            live.update(panel(read()), refresh=True)

    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield tick
        live.update(panel(read()), refresh=True)


def panel(state: Progress) -> Group:
    """The panel's picture: a table of the trials that run, over a line of figures."""
    counts = state.counts
    of = f"/{state.total}" if state.total else ""
    line = f"{counts.done}{of} done: {counts.finished} finished, {counts.pruned} pruned, {counts.failed} failed"
    line += f" | best {state.best[1]:.4f} (trial {state.best[0]})" if state.best else ""
    line += f" | to go {_clock(state.eta[0])} ± {_clock(state.eta[1])}" if state.eta else ""
    table = Table(title=f"sweep {state.name}", title_justify="left")
    for column in ("trial", "epoch", "val mIoU", "best at that epoch"):
        table.add_column(column, justify="right")
    for row in state.running:
        there = "" if row.best_there is None else f"{row.best_there:.4f}"
        epoch = _epoch(row).removeprefix("epoch ")
        table.add_row(str(row.number), epoch, "" if row.miou is None else f"{row.miou:.4f}", there)
    return Group(table, line)


def _epoch(row: RunningTrial) -> str:
    return f"epoch {row.epoch}/{row.num_epochs}" if row.num_epochs else f"epoch {row.epoch}"


def _miou(row: RunningTrial) -> str:
    if row.miou is None:
        return "not validated yet"
    there = "" if row.best_there is None else f" (best of the others by then {row.best_there:.4f})"
    return f"val mIoU {row.miou:.4f}{there}"


def _clock(seconds: float) -> str:
    """Seconds as people read them.

    >>> _clock(42.4), _clock(754), _clock(7320)
    ('42 s', '13 min', '2 h 02 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
