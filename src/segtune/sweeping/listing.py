"""Lists of sweeps: those that were started in a store, and the sweep files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna import Study

from segtune.config.conf_folders import shipped
from segtune.errors import SegtuneError
from segtune.sweeping.engine.records import SPEC
from segtune.sweeping.progress import Progress, progress
from segtune.sweeping.records import load_study

_WIDTH = 100
_FILES = ("journal.log", "storage.json", "workers.log")  # of a sweep's folder


@dataclass(frozen=True)
class StartedSweep:
    """A sweep of a store.

    Attributes:
        progress: None if the study cannot be read.
        changed: time of the last write, in seconds since 1970.
        fault: the reason why the study cannot be read.
    """

    name: str
    progress: Progress | None
    changed: float
    fault: str = ""

    @property
    def state(self) -> str:
        """One of running, complete, open (it can be continued) and unreadable."""
        return "unreadable" if self.progress is None else state_of(self.progress)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        data = {} if self.progress is None else self.progress.to_json()
        data |= {"sweep": self.name, "state": self.state}
        return data | ({"fault": self.fault} if self.fault else {})

    def line(self, width: int) -> str:
        """Return one line for people; `width` is the length of the longest name."""
        if self.progress is None:
            return f"{self.name:<{width}}  unreadable: {self.fault}"
        counts, total, best = self.progress.counts, self.progress.total, self.progress.best
        done = f"{counts.done}/{total}" if total else str(counts.done)
        parts = [
            f"{done} trials ({counts.finished} finished, {counts.pruned} pruned, "
            f"{counts.failed} failed)"
        ]
        if counts.running:
            parts.append(f"{counts.running} running")
        if best:
            parts.append(f"best {best[1]:.4f}")
        return f"{self.name:<{width}}  {self.state:<8}  {', '.join(parts)}"


@dataclass(frozen=True)
class SweepFile:
    """A file under `sweeps/`: its name, and the question in its first line."""

    name: str
    path: Path
    question: str

    def line(self, width: int) -> str:
        """Return one line for people; `width` is the length of the longest name."""
        room = _WIDTH - width - 2
        text = self.question if len(self.question) <= room else self.question[: room - 1] + "…"
        return f"{self.name:<{width}}  {text}"


def started_sweeps(root: str) -> list[StartedSweep]:
    """Return the sweeps that were started in a store, the last changed first."""
    sweeps = []
    for folder in (Path(root).expanduser().absolute() / "sweeps").glob("*/"):
        sweep = _started_sweep(folder)
        if sweep is not None:
            sweeps.append(sweep)
    return sorted(sweeps, key=lambda sweep: -sweep.changed)


def _started_sweep(folder: Path) -> StartedSweep | None:
    if not (folder / "journal.log").is_file() and not (folder / "storage.json").is_file():
        return None
    files = [folder / name for name in _FILES if (folder / name).exists()]
    changed = max(file.stat().st_mtime for file in files)
    try:
        study = load_study(folder, folder.name)
        if study is None:
            return None
        return StartedSweep(folder.name, current_progress(study), changed)
    except SegtuneError as error:
        return StartedSweep(folder.name, None, changed, str(error).splitlines()[0])


def current_progress(study: Study) -> Progress:
    """Read the progress of a study, by the number of trials and workers that it recorded."""
    spec = study.user_attrs.get(SPEC, {})
    workers = spec.get("workers")
    if not isinstance(workers, int):  # `auto`, or a study that was never started
        workers = 2
    return progress(study, spec.get("n_trials"), workers)


def state_of(state: Progress) -> str:
    """Return one of running, complete and open (it can be continued)."""
    if any(not trial.gone for trial in state.running):
        return "running"
    return "complete" if state.total is not None and state.counts.done >= state.total else "open"


def sweep_files() -> list[SweepFile]:
    """Return the files that `segtune sweep NAME` finds: the user's, then the shipped ones."""
    files: dict[str, SweepFile] = {}
    for folder in (Path("sweeps"), shipped("sweeps")):
        for path in sorted(folder.glob("*.yaml")):
            files.setdefault(path.stem, SweepFile(path.stem, path, _question(path)))
    return list(files.values())


def _question(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline().strip()
    if not first.startswith("#"):
        return "(no question in line 1)"
    return first.lstrip("# ").removeprefix("Question:").strip()
