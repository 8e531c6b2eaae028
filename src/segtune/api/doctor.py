"""Check the machine and the store: each line says ok, warn or FAIL, and what to do."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from segtune import __version__
from segtune.config.defaults import EXPERIMENT, ROOT
from segtune.config.schema import TrackingConfig
from segtune.errors import PartialError, SegtuneError, StorageError

_EXTRAS = {
    "export": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "uses": ("pymatting", "skimage"),
    "postgres": ("psycopg",),
    "slurm": ("submitit",),
    "ray": ("ray",),
    "hf": ("pyarrow",),
    "dashboard": ("optuna_dashboard",),
}
_LITTLE_DISK = 2e9
_GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        name: part of the machine or the store.
        state: `ok`, `warn`, `FAIL`, or `fixed` for repaired damage.
        text: the fact.
        remedy: what to do; empty where nothing has to be done.
        exit_code: exit code of the command, if this is the gravest finding.
    """

    name: str
    state: str
    text: str
    remedy: str = ""
    exit_code: int = 0

    def line(self) -> str:
        """Return the line for people."""
        remedy = f". {self.remedy}" if self.remedy else ""
        return f"{self.state:<5} {self.name:<12} {self.text}{remedy}"


@dataclass(frozen=True)
class Diagnosis:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of the gravest finding.

        5: a store or cache that cannot be used. 4: damage that is left. 0: neither.
        """
        return max((f.exit_code for f in self.findings), default=0)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"findings": [vars(f) for f in self.findings], "ok": self.exit_code == 0}


def diagnose(
    root: str = ROOT, uri: str | None = None, fix: bool = False, experiment: str = EXPERIMENT
) -> Diagnosis:
    """Check the machine and the store.

    Args:
        fix: repair what a crash left in the store.
        experiment: the store opens at this experiment, and creates it at the first use. The check
            covers the runs of all experiments.
    """
    config = TrackingConfig(root=root, uri=uri, experiment=experiment)
    findings = [*_machine(), *_cache(), *_store(config, fix)]
    return Diagnosis(tuple(findings))


def _machine() -> Iterator[Finding]:
    import torch

    from segtune.runtime.processors import available_processors

    python = f"Python {platform.python_version()} ({sys.executable})"
    yield Finding("segtune", "ok", f"{__version__} on {python}")
    threads = f"{torch.get_num_threads()} threads, {available_processors()} processors"
    yield Finding("torch", "ok", f"{torch.__version__}, {threads}")
    yield _device()
    for extra, modules in _EXTRAS.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        if missing:
            text = f"optional, not installed: {', '.join(missing)}"
            yield Finding(extra, "ok", text, f"If you need it: pip install 'segtune[{extra}]'")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        names = sorted({torch.cuda.get_device_name(n) for n in range(count)})
        return Finding("device", "ok", f"{count} GPU: {', '.join(names)}")
    if torch.version.cuda:
        text = f"torch is built for CUDA {torch.version.cuda} and finds no GPU"
        remedy = "If there is a GPU: check nvidia-smi, the driver, and CUDA_VISIBLE_DEVICES"
        return Finding("device", "warn", text, remedy)
    return Finding("device", "ok", "CPU only; torch is built without CUDA")


def _cache() -> Iterator[Finding]:
    from segtune.data.source.files import cache_dir

    folder = cache_dir()
    reason = _write_fault(folder)
    if reason:
        remedy = "Set SEGTUNE_CACHE to a folder that you can write"
        yield Finding("cache", "FAIL", f"{folder}: {reason}", remedy, StorageError.exit_code)
        return
    sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()] if folder.is_dir() else []
    yield Finding("cache", "ok", f"{folder}: {sum(sizes) / _GB:.2f} GB in {len(sizes)} files")
    yield _disk("cache disk", folder)


def _disk(name: str, folder: Path) -> Finding:
    free = shutil.disk_usage(_existing(folder)).free
    text = f"{free / _GB:.1f} GB free"
    if free < _LITTLE_DISK:
        return Finding(name, "warn", text, "Delete files: a run needs about 1 GB")
    return Finding(name, "ok", text)


def _existing(folder: Path) -> Path:
    return next(p for p in (folder, *folder.parents) if p.exists())


def _write_fault(folder: Path) -> str:
    """Return why a folder cannot be written; empty if it can. A missing folder stays missing."""
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"cannot be written: {error}"


def _store(config: TrackingConfig, fix: bool) -> Iterator[Finding]:
    root = Path(os.path.expanduser(config.root)).absolute()
    has_files = any((root / name).exists() for name in ("mlflow.db", "artifacts"))
    if config.uri is None and not has_files:
        reason = _write_fault(root)
        if not reason:
            yield Finding("store", "ok", f"{root}: none yet, the first run creates it")
            return
        remedy = "Set tracking.root=DIR"
        yield Finding("store", "FAIL", f"{root}: {reason}", remedy, StorageError.exit_code)
        return
    from segtune.tracking.store import open_store

    try:
        store = open_store(config)
    except SegtuneError as error:
        yield Finding("store", "FAIL", str(error), exit_code=StorageError.exit_code)
        return
    yield Finding("store", "ok", f"{store.address} opens")
    yield _disk("store disk", root)
    yield from _journals(root, fix)
    yield from _outboxes(store, fix)
    yield from _strays(store, fix)
    yield from _checkpoints(root, fix)


def _journals(root: Path, fix: bool) -> Iterator[Finding]:
    from segtune.sweeping.health import damaged_journals

    damages = damaged_journals(root)
    if not damages:
        yield Finding("journals", "ok", "every study can be read")
    for damage in damages:
        text = f"{damage.path}: line {damage.line} cannot be read"
        cut = f"cuts the file there ({damage.lost} lines) and keeps a copy"
        remedy = f"Stop the sweep; then doctor --fix {cut}"
        yield _repaired("journals", text, remedy, fix, partial(_cut, damage))


def _outboxes(store: Any, fix: bool) -> Iterator[Finding]:
    from segtune.tracking.health import outbox_files, refused_files, undeliverable
    from segtune.tracking.run_writer import deliver_outboxes

    lost = undeliverable(store)
    for path, reason in lost.items():
        text = f"metrics of run {path.parent.name} were not sent before the run was deleted"
        remedy = f"Delete {path} to give them up, or: {reason}"
        yield Finding("outboxes", "warn", text, remedy, PartialError.exit_code)
    waiting = [path for path in outbox_files(store.root) if path not in lost]
    left = deliver_outboxes(store) if fix else len(waiting)
    if not waiting and not lost:
        yield Finding("outboxes", "ok", "no metrics wait for the tracking server")
    elif left:
        text = f"metrics of {left} runs wait for the tracking server"
        remedy = "doctor --fix sends them, and so does the next sweep"
        yield Finding("outboxes", "warn", text, remedy, PartialError.exit_code)
    elif waiting:
        yield Finding("outboxes", "fixed", f"the waiting metrics of {len(waiting)} runs were sent")
    for path in refused_files(store.root):
        text = f"{path} holds messages of run {path.parent.name} that could not be recorded"
        remedy = "Each line has the reason; delete the file when you do not need them"
        yield Finding("outboxes", "warn", text, remedy, PartialError.exit_code)


def _strays(store: Any, fix: bool) -> Iterator[Finding]:
    from segtune.tracking.health import stray_runs

    strays = stray_runs(store)
    if not strays:
        yield Finding("runs", "ok", "every run that is marked as running has a process")
    for run in strays:
        text = f"{run.name} ({run.id}) is marked as running, but no process writes it"
        remedy = f"doctor --fix marks it as interrupted; train resume={run.id} continues it"
        yield _repaired("runs", text, remedy, fix, partial(_ended, store, run))


def _checkpoints(root: Path, fix: bool) -> Iterator[Finding]:
    from segtune.tracking.health import broken_checkpoints

    broken = broken_checkpoints(root)
    if not broken:
        yield Finding("checkpoints", "ok", "every checkpoint is complete")
    for path in broken:
        aside = path.with_name(f"{path.name}.damaged")
        remedy = f"doctor --fix renames it to {aside.name}"
        repair = partial(_set_aside, path, aside)
        yield _repaired("checkpoints", f"{path}: cut off", remedy, fix, repair)


def _repaired(name: str, text: str, remedy: str, fix: bool, repair: Callable[[], Any]) -> Finding:
    """Return the finding of damage, after the repair if the user asked for it."""
    if not fix:
        return Finding(name, "warn", text, remedy, PartialError.exit_code)
    try:
        return Finding(name, "fixed", f"{text}: {repair()}")
    except OSError as error:
        return Finding(name, "FAIL", f"{text}: {error}", remedy, StorageError.exit_code)


def _cut(damage: Any) -> str:
    from segtune.sweeping.health import repair_journal

    return f"cut; a copy of the whole file: {repair_journal(damage)}"


def _ended(store: Any, run: Any) -> str:
    from segtune.tracking.health import end_stray

    end_stray(store, run)
    return "marked as interrupted"


def _set_aside(path: Path, aside: Path) -> str:
    return f"now {path.replace(aside)}"
