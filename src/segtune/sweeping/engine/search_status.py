"""Look at a search from another process, and stop it; `run` with the same settings continues it."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.errors import ConfigError
from segtune.runtime.addresses import without_password
from segtune.sweeping.engine.records import (
    RUN,
    SPEC,
    STOP,
    Counts,
    count,
    counted_trials,
    last_line,
)
from segtune.sweeping.engine.storage import open_storage

_MAX_ERRORS = 5  # failed trials in the lines for people


@dataclass(frozen=True)
class RunningSearchTrial:
    """A running trial.

    Attributes:
        number: of the trial; its attempts share it.
        step: the last reported one; None before the first report.
        value: reported at that step.
    """

    number: int
    params: dict[str, Any]
    step: int | None
    value: float | None

    def line(self) -> str:
        """Return one line for people."""
        reported = "no report yet" if self.step is None else f"step {self.step}: {self.value:.6g}"
        return f"trial {self.number} ({_words(self.params)}), {reported}"


@dataclass(frozen=True)
class SearchStatus:
    """A search at one moment.

    Attributes:
        total: number of trials; None if the search has not recorded it.
        front: number and values of the finished trials that no other beats in every direction.
        errors: number of each failed trial, and the last line of its error.
        is_stopping: workers were asked to end.
    """

    name: str
    folder: Path
    counts: Counts
    total: int | None
    front: tuple[tuple[int, tuple[float, ...]], ...]
    running: tuple[RunningSearchTrial, ...]
    errors: tuple[tuple[int, str], ...]
    is_stopping: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "search": self.name,
            "folder": str(self.folder),
            "trials": self.counts.to_json(),
            "n_trials": self.total,
            "best": [{"trial": number, "values": list(values)} for number, values in self.front],
            "running": [asdict(trial) for trial in self.running],
            "errors": [{"trial": number, "error": error} for number, error in self.errors],
            "stopping": self.is_stopping,
        }

    def lines(self) -> list[str]:
        """Return lines for people."""
        counts = self.counts
        done = f"{counts.done} of {self.total}" if self.total else str(counts.done)
        state = ", asked to stop" if self.is_stopping else ""
        lines = [
            f"search {self.name}: {done} done ({counts.finished} finished, {counts.pruned} pruned, "
            f"{counts.failed} failed), {counts.running} running, {counts.waiting} waiting{state}"
        ]
        for number, values in self.front:
            lines.append(f"best: trial {number}, {', '.join(f'{v:.6g}' for v in values)}")
        lines += [trial.line() for trial in self.running]
        lines += [f"trial {number} failed: {error}" for number, error in self.errors[-_MAX_ERRORS:]]
        return lines


def status(folder: str | Path, storage: str | None = None) -> SearchStatus:
    """Return the state of a search; reading needs no right to write.

    Args:
        folder: of the search, as in `SearchSettings`.
        storage: of a search in PostgreSQL.

    Raises:
        ConfigError: the folder holds no search.
    """
    path = Path(folder).absolute()
    return _status(path, _open(path, storage))


def stop(folder: str | Path, storage: str | None = None, wait: float = 0.0) -> SearchStatus:
    """Stop a search on all machines; unfinished trials return to the queue.

    A worker hears it within a third of the search's lease.

    Args:
        wait: longest time to wait for the workers, in seconds.

    Raises:
        ConfigError: the folder holds no search.
    """
    path = Path(folder).absolute()
    study = _open(path, storage)
    study.set_user_attr(STOP, True)
    deadline = time.monotonic() + wait
    while count(study).running and time.monotonic() < deadline:
        time.sleep(0.2)
    return _status(path, study)


def is_search(folder: str | Path) -> bool:
    """Return whether a folder holds the journal of a search."""
    return (Path(folder) / "journal.log").is_file()


def _open(folder: Path, storage: str | None) -> optuna.Study:
    if storage is None and not is_search(folder):
        raise ConfigError(
            f"'{folder}' holds no search: it has no journal.log. Give the folder of "
            "SearchSettings, or of hydra.sweeper.folder (multirun/studies/NAME); a search in "
            "PostgreSQL also needs its address."
        )
    opened = open_storage(folder, storage, folder.name)
    names = optuna.get_all_study_names(opened.optuna)
    name = folder.name if folder.name in names or len(names) != 1 else names[0]
    if name not in names:
        place = without_password(storage) if storage else folder / "journal.log"
        raise ConfigError(f"'{place}' holds no search '{name}'; it holds {', '.join(names)}.")
    return optuna.load_study(study_name=name, storage=opened.optuna)


def _status(folder: Path, study: optuna.Study) -> SearchStatus:
    trials = counted_trials(study)
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    return SearchStatus(
        name=study.study_name,
        folder=folder,
        counts=count(study),
        total=study.user_attrs.get(SPEC, {}).get("n_trials"),
        front=tuple((_number(trial), tuple(trial.values)) for trial in _front(study)),
        running=tuple(map(_running, running)),
        errors=tuple((_number(trial), last_line(trial)) for trial in failed),
        is_stopping=bool(study.user_attrs.get(STOP, False)),
    )


def _front(study: optuna.Study) -> list[FrozenTrial]:
    if len(study.directions) > 1:
        return study.best_trials
    is_complete = any(t.state == TrialState.COMPLETE for t in counted_trials(study))
    return [study.best_trial] if is_complete else []


def _running(trial: FrozenTrial) -> RunningSearchTrial:
    step = trial.last_step
    value = None if step is None else trial.intermediate_values[step]
    return RunningSearchTrial(_number(trial), dict(trial.params), step, value)


def _number(trial: FrozenTrial) -> int:
    """Return the number that the attempts at a trial share."""
    number = str(trial.user_attrs.get(RUN, ""))
    return int(number) if number.isdigit() else trial.number


def _words(params: dict[str, Any]) -> str:
    shown = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in params.values()]
    return " ".join(f"{key}={text}" for key, text in zip(params, shown, strict=True))
