"""How far a sweep is: the figures of one moment, as data and as lines."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.config.commands import command, in_folder
from segtune.sweeping.pulse import read_pulse
from segtune.sweeping.records import (
    FOLDER,
    PULSE,
    WORDS,
    Counts,
    count,
    counted_trials,
    last_line,
    plain_params,
    seconds_of,
)

NUM_EPOCHS = "num_epochs"
_SHOWN = 5  # failed trials, in the lines for people


@dataclass(frozen=True)
class RunningTrial:
    """A trial under way.

    Attributes:
        epoch: validated so far, from 1; 0 before the first.
        miou: of that epoch; None before the first.
        best_there: the best mIoU of any other trial up to that epoch.
        params: what the sampler chose.
        phase: preparing, training or measuring.
        seconds: since its worker began or resumed it.
        left: seconds to go, about; None where it is too early to tell.
    """

    number: int
    epoch: int
    num_epochs: int | None
    miou: float | None
    best_there: float | None
    params: Mapping[str, Any] = field(default_factory=dict)
    phase: str | None = None
    seconds: float | None = None
    left: float | None = None

    def short_params(self) -> str:
        """The parameters as a few words.

        >>> RunningTrial(1, 0, 9, None, None, {"hp.width": "24", "hp.per_item_lrate": 0.00123456}).short_params()
        'width=24 per_item_lrate=0.00123'
        """
        words = [
            f"{k.removeprefix('hp.').partition('@')[0]}={_short(v)}" for k, v in self.params.items()
        ]
        return " ".join(words)

    def line(self) -> str:
        """For people."""
        words = [f"trial {self.number} ({self.short_params()})", _epoch(self), _miou(self)]
        words += [self.phase] if self.phase and self.phase != "training" else []
        words += [f"running for {clock(self.seconds)}"] if self.seconds is not None else []
        words += [f"about {clock(self.left)} left"] if self.left else []
        return ", ".join(words)


@dataclass(frozen=True)
class Progress:
    """A sweep at one moment.

    Attributes:
        total: trials asked for; None where a budget decides.
        best: number and mIoU of the best finished trial.
        errors: number and reason, in one line, of the failed trials.
        eta: seconds to go, and their standard deviation; None before two trials have ended.
        words: that the sweep was started with: its file and the overrides.
        folder: in which they were given; None where an earlier version did not record it.
    """

    name: str
    counts: Counts
    total: int | None
    best: tuple[int, float] | None
    running: tuple[RunningTrial, ...]
    errors: tuple[tuple[int, str], ...]
    eta: tuple[float, float] | None
    words: tuple[str, ...] = ()
    folder: str | None = None

    @property
    def command(self) -> str:
        """The command that continues the sweep; its file, store and data are found from the folder of its start."""
        words = command("sweep", *self.words)
        if self.folder is None or Path(self.folder) == Path.cwd():
            return words
        return in_folder(self.folder, words)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sweep": self.name,
            "trials": self.counts.to_json(),
            "n_trials": self.total,
            "best": None
            if self.best is None
            else {"trial": self.best[0], "val/miou": self.best[1]},
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
        rows += [r.line() for r in self.running]
        rows += [f"trial {n} failed: {e}" for n, e in self.errors[-_SHOWN:]]
        if self.eta:
            rows.append(f"to go: {clock(self.eta[0])} ± {clock(self.eta[1])}")
        return rows


def progress(study: optuna.Study, n_trials: int | None, workers: int) -> Progress:
    """Reads how far a sweep is."""
    trials, counts = counted_trials(study), count(study)
    finished = [
        (t.number, t.value)
        for t in trials
        if t.state == TrialState.COMPLETE and t.value is not None
    ]
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
        study.user_attrs.get(FOLDER),
    )


def _running(trial: FrozenTrial, trials: list[FrozenTrial]) -> RunningTrial:
    last = max(trial.intermediate_values, default=-1)
    others = [
        max((v for e, v in t.intermediate_values.items() if e <= last), default=None)
        for t in trials
        if t.number != trial.number
    ]
    best = max((v for v in others if v is not None), default=None)
    num_epochs, usual = trial.user_attrs.get(NUM_EPOCHS), _usual_seconds(trial, trials)
    miou, params = trial.intermediate_values.get(last), plain_params(trial)
    phase, seconds, left = None, None, None
    if PULSE in trial.user_attrs:
        phase, seconds, left = read_pulse(trial.user_attrs[PULSE], time.time())
    if left is None and seconds is not None and usual is not None:
        left = max(0.0, usual - seconds)
    return RunningTrial(
        trial.number, last + 1, num_epochs, miou, best, params, phase, seconds, left
    )


def _usual_seconds(trial: FrozenTrial, trials: list[FrozenTrial]) -> float | None:
    """What finished trials took: those of the same template where there are any."""
    finished = [t for t in trials if t.state == TrialState.COMPLETE and seconds_of(t) is not None]
    alike = [t for t in finished if t.params.get("template") == trial.params.get("template")]
    return statistics.mean(seconds_of(t) or 0.0 for t in alike or finished) if finished else None


def _eta(
    trials: list[FrozenTrial], counts: Counts, total: int | None, workers: int
) -> tuple[float, float] | None:
    """Trials to go at the mean duration of those that ended; one that runs counts as half."""
    ended = [s for s in (seconds_of(t) for t in trials if t.state.is_finished()) if s is not None]
    if total is None or len(ended) < 2 or counts.done >= total:
        return None
    left = max(0.0, total - counts.done - counts.running / 2)
    return left * statistics.mean(ended) / workers, left**0.5 * statistics.stdev(ended) / workers


def _epoch(row: RunningTrial) -> str:
    return f"epoch {row.epoch}/{row.num_epochs}" if row.num_epochs else f"epoch {row.epoch}"


def _miou(row: RunningTrial) -> str:
    if row.miou is None:
        return "not validated yet"
    there = "" if row.best_there is None else f" (best of the others by then {row.best_there:.4f})"
    return f"val mIoU {row.miou:.4f}{there}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """Seconds as people read them.

    >>> clock(42.4), clock(754), clock(7320)
    ('42 s', '13 min', '2 h 02 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
