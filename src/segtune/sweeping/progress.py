"""The progress of a sweep at one moment, as data and as lines."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.config.commands import command, in_folder
from segtune.sweeping.engine.lease import is_gone
from segtune.sweeping.engine.records import (
    FOLDER,
    LEASE,
    WORDS,
    Counts,
    count,
    counted_trials,
    last_line,
    seconds_of,
)
from segtune.sweeping.objectives import DEFAULT, Objective, curve_of, label, of_study
from segtune.sweeping.pulse import PULSE, read_pulse
from segtune.sweeping.records import plain_params

NUM_EPOCHS = "num_epochs"  # user attribute of a trial
_MAX_ERRORS = 5  # failed trials in the lines for people


@dataclass(frozen=True)
class RunningTrial:
    """A running trial.

    Attributes:
        epoch: number of validated epochs.
        num_epochs: None if the training chooses its number of epochs.
        miou: value of the first objective at the last validated epoch; None before the first.
        best_there: the best mIoU of any other trial up to that epoch.
        params: the values that the sampler chose.
        phase: preparing, training or measuring.
        seconds: since its worker began or resumed it.
        left: estimated seconds to go; None if it is too early for an estimate.
        gone: its worker was on this machine and has ended; the next worker continues the trial.
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
    objective: str = DEFAULT
    gone: bool = False

    def short_params(self) -> str:
        """Return the parameters in one line.

        >>> params = {"hp.width": "24", "hp.per_item_lrate": 0.00123456}
        >>> RunningTrial(1, 0, 9, None, None, params).short_params()
        'width=24 per_item_lrate=0.00123'
        """
        names = {key: key.removeprefix("hp.").partition("@")[0] for key in self.params}
        return " ".join(f"{names[key]}={short(value)}" for key, value in self.params.items())

    def line(self) -> str:
        """Return one line for people."""
        parts = [f"trial {self.number} ({self.short_params()})", _epoch(self), _miou(self)]
        if self.gone:
            return ", ".join([*parts, "its worker has ended; the next worker continues it"])
        if self.phase and self.phase != "training":
            parts.append(self.phase)
        if self.seconds is not None:
            parts.append(f"running for {clock(self.seconds)}")
        if self.left:
            parts.append(f"about {clock(self.left)} left")
        return ", ".join(parts)


@dataclass(frozen=True)
class Progress:
    """A sweep at one moment.

    Attributes:
        total: number of trials; None if a budget decides.
        best: number and value of the best finished trial, by the first objective.
        objective: name of the first objective.
        errors: number of each failed trial, and the last line of its error.
        eta: seconds to go, and their standard deviation; None before two trials have ended.
        words: arguments of `segtune sweep`: the sweep's file and the overrides.
        folder: working folder of that command; None if an earlier version did not record it.
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
    objective: str = DEFAULT

    @property
    def command(self) -> str:
        """The command that continues the sweep, from the folder in which it was started."""
        text = command("sweep", *self.words)
        if self.folder is None or Path(self.folder) == Path.cwd():
            return text
        return in_folder(self.folder, text)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        best = None if self.best is None else {"trial": self.best[0], self.objective: self.best[1]}
        eta = None if self.eta is None else {"mean": self.eta[0], "std": self.eta[1]}
        return {
            "sweep": self.name,
            "trials": self.counts.to_json(),
            "n_trials": self.total,
            "best": best,
            "errors": [{"trial": number, "error": error} for number, error in self.errors],
            "running": [asdict(trial) for trial in self.running],
            "eta_seconds": eta,
        }

    def lines(self) -> list[str]:
        """Return lines for people."""
        counts = self.counts
        done = f"{counts.done} of {self.total}" if self.total else str(counts.done)
        lines = [
            f"sweep {self.name}: {done} done ({counts.finished} finished, {counts.pruned} pruned, "
            f"{counts.failed} failed), {counts.running} running, {counts.waiting} waiting"
        ]
        if self.best:
            best = f"{label(self.objective)} {self.best[1]:.4f}"
            lines.append(f"best: trial {self.best[0]}, {best}")
        lines += [trial.line() for trial in self.running]
        lines += [f"trial {number} failed: {error}" for number, error in self.errors[-_MAX_ERRORS:]]
        if self.eta:
            lines.append(f"to go: {clock(self.eta[0])} ± {clock(self.eta[1])}")
        return lines


def progress(study: optuna.Study, n_trials: int | None, workers: int) -> Progress:
    """Read the progress of a sweep from its study."""
    trials, counts = counted_trials(study), count(study)
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    scores = [(t.number, t.values[0]) for t in complete if t.values]
    objective = of_study(study)[0]
    choose = min if objective.direction == "minimize" else max
    failed = [t for t in trials if t.state == TrialState.FAIL]
    running = [t for t in trials if t.state == TrialState.RUNNING]
    return Progress(
        name=study.study_name,
        counts=counts,
        total=n_trials,
        best=choose(scores, key=lambda score: score[1], default=None),
        objective=objective.name,
        running=tuple(_running_trial(t, trials, objective) for t in running),
        errors=tuple((t.number, last_line(t)) for t in failed),
        eta=_eta(trials, counts, n_trials, workers),
        words=tuple(study.user_attrs.get(WORDS, [study.study_name])),
        folder=study.user_attrs.get(FOLDER),
    )


def _running_trial(
    trial: FrozenTrial, trials: list[FrozenTrial], objective: Objective
) -> RunningTrial:
    curve = curve_of(trial)
    last_epoch = max(curve, default=-1)
    phase, seconds, remaining = None, None, None
    if PULSE in trial.user_attrs:
        phase, seconds, remaining = read_pulse(trial.user_attrs[PULSE], time.time())
    usual = _usual_seconds(trial, trials)
    if remaining is None and seconds is not None and usual is not None:
        remaining = max(0.0, usual - seconds)
    lease = trial.user_attrs.get(LEASE)
    return RunningTrial(
        number=trial.number,
        epoch=last_epoch + 1,
        num_epochs=trial.user_attrs.get(NUM_EPOCHS),
        miou=curve.get(last_epoch),
        best_there=_best_of_others(trial.number, last_epoch, trials, objective),
        objective=objective.name,
        params=plain_params(trial),
        phase=phase,
        seconds=seconds,
        left=remaining,
        gone=lease is not None and is_gone(lease),
    )


def _best_of_others(
    number: int, last_epoch: int, trials: list[FrozenTrial], objective: Objective
) -> float | None:
    """Return the best first objective of the other trials, up to and with an epoch."""
    scores: list[float] = []
    for other in trials:
        if other.number != number:
            curve = curve_of(other).items()
            scores += [score for epoch, score in curve if epoch <= last_epoch]
    return (min if objective.direction == "minimize" else max)(scores, default=None)


def _usual_seconds(trial: FrozenTrial, trials: list[FrozenTrial]) -> float | None:
    """Return the mean duration of the finished trials, if possible of the same template."""
    finished = [t for t in trials if t.state == TrialState.COMPLETE and seconds_of(t) is not None]
    template = trial.params.get("template")
    same_template = [t for t in finished if t.params.get("template") == template]
    if not finished:
        return None
    return statistics.mean(seconds_of(t) or 0.0 for t in same_template or finished)


def _eta(
    trials: list[FrozenTrial], counts: Counts, total: int | None, workers: int
) -> tuple[float, float] | None:
    """Return the seconds to go and their standard deviation.

    Each trial to go takes the mean duration of those that ended; a running one counts as half.
    """
    durations = [seconds_of(t) for t in trials if t.state.is_finished()]
    seconds = [duration for duration in durations if duration is not None]
    if total is None or len(seconds) < 2 or counts.done >= total:
        return None
    to_go = max(0.0, total - counts.done - counts.running / 2)
    mean, std = statistics.mean(seconds), statistics.stdev(seconds)
    return to_go * mean / workers, to_go**0.5 * std / workers


def _epoch(trial: RunningTrial) -> str:
    return f"epoch {trial.epoch}/{trial.num_epochs}" if trial.num_epochs else f"epoch {trial.epoch}"


def _miou(trial: RunningTrial) -> str:
    if trial.miou is None:
        return "not validated yet"
    best = (
        "" if trial.best_there is None else f" (best of the others by then {trial.best_there:.4f})"
    )
    return f"{label(trial.objective)} {trial.miou:.4f}{best}"


def short(value: Any) -> str:
    """Return a parameter's value with three digits at most.

    >>> short(0.00123456), short("24")
    ('0.00123', '24')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """Return a duration for people.

    >>> clock(42.4), clock(754), clock(7320)
    ('42 s', '13 min', '2 h 02 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
