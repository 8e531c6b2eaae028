"""What sweeps there are: those that were started in a store, and the files that wait to be."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segtune.config.conf_folders import shipped
from segtune.errors import SegtuneError
from segtune.sweeping.progress import Progress, progress
from segtune.sweeping.records import load_study
from segtune.sweeping.study import SPEC

_WIDTH = 100


@dataclass(frozen=True)
class StartedSweep:
    """A sweep of a store.

    Attributes:
        progress: None where its study cannot be read; then `fault` says why.
        changed: when something was last written, in seconds since 1970.
    """

    name: str
    progress: Progress | None
    changed: float
    fault: str = ""

    @property
    def state(self) -> str:
        """running, complete, open (to go on with) or unreadable."""
        if self.progress is None:
            return "unreadable"
        counts, total = self.progress.counts, self.progress.total
        if counts.running:
            return "running"
        return "complete" if total is not None and counts.done >= total else "open"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        data = {} if self.progress is None else self.progress.to_json()
        return {**data, "sweep": self.name, "state": self.state} | (
            {"fault": self.fault} if self.fault else {}
        )

    def line(self, width: int) -> str:
        """For people; `width` is that of the longest name."""
        if self.progress is None:
            return f"{self.name:<{width}}  unreadable: {self.fault}"
        counts = self.progress.counts
        of = f"/{self.progress.total}" if self.progress.total else ""
        words = [
            f"{counts.done}{of} trials ({counts.finished} finished, {counts.pruned} pruned, {counts.failed} failed)"
        ]
        words += [f"{counts.running} running"] if counts.running else []
        words += [f"best {self.progress.best[1]:.4f}"] if self.progress.best else []
        return f"{self.name:<{width}}  {self.state:<8}  {', '.join(words)}"


@dataclass(frozen=True)
class SweepFile:
    """A file under `sweeps/`: its name, and the question in its first line."""

    name: str
    path: Path
    question: str

    def line(self, width: int) -> str:
        """For people; `width` is that of the longest name."""
        room = _WIDTH - width - 2
        text = self.question if len(self.question) <= room else self.question[: room - 1] + "…"
        return f"{self.name:<{width}}  {text}"


def started_sweeps(root: str) -> list[StartedSweep]:
    """The sweeps that were started in a store, the last changed first."""
    folders = (Path(root).expanduser().absolute() / "sweeps").glob("*/")
    rows = [
        _started(f)
        for f in folders
        if (f / "journal.log").is_file() or (f / "storage.json").is_file()
    ]
    return sorted((r for r in rows if r is not None), key=lambda r: -r.changed)


def _started(folder: Path) -> StartedSweep | None:
    files = [
        f for f in folder.iterdir() if f.name in ("journal.log", "storage.json", "workers.log")
    ]
    changed = max((f.stat().st_mtime for f in files), default=0.0)
    try:
        study = load_study(folder, folder.name)
        if study is None:
            return None
        spec = study.user_attrs.get(SPEC, {})
        workers = spec.get("workers") if isinstance(spec.get("workers"), int) else 2
        return StartedSweep(folder.name, progress(study, spec.get("n_trials"), workers), changed)
    except SegtuneError as error:
        return StartedSweep(folder.name, None, changed, str(error).splitlines()[0])


def sweep_files() -> list[SweepFile]:
    """The files that `segtune sweep NAME` finds, the user's before ours."""
    found: dict[str, SweepFile] = {}
    for folder in (Path("sweeps"), shipped("sweeps")):
        for path in sorted(folder.glob("*.yaml")):
            if path.stem not in found:
                found[path.stem] = SweepFile(path.stem, path, _question(path))
    return list(found.values())


def _question(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline().strip()
    return (
        first.lstrip("# ").removeprefix("Question:").strip()
        if first.startswith("#")
        else "(no question in line 1)"
    )
