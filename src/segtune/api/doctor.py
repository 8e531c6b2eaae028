"""Is this machine ready, and is the store sound? Each line says ok, warn or FAIL, and what to do."""

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
from segtune.config.schema import TrackingConfig
from segtune.errors import PartialError, SegtuneError, StorageError

_EXTRAS = {
    "export": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "uses": ("pymatting", "skimage"),
    "postgres": ("psycopg",),
    "slurm": ("submitit",),
    "ray": ("ray",),
    "dashboard": ("optuna_dashboard",),
}
_LITTLE_DISK = 2e9
_GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        state: `ok`, `warn`, `FAIL`, or `fixed` for damage that was repaired.
        remedy: what to do; empty where nothing is to be done.
        exit_code: of the command where the finding stands.
    """

    name: str
    state: str
    text: str
    remedy: str = ""
    exit_code: int = 0

    def line(self) -> str:
        """For people."""
        return f"{self.state:<5} {self.name:<12} {self.text}" + (
            f". {self.remedy}" if self.remedy else ""
        )


@dataclass(frozen=True)
class Diagnosis:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """The gravest: 5 for a store or cache that cannot be used, 4 for damage that is left, 0 otherwise."""
        return max((f.exit_code for f in self.findings), default=0)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"findings": [vars(f) for f in self.findings], "ok": self.exit_code == 0}


def diagnose(
    root: str = "mlruns", uri: str | None = None, fix: bool = False, experiment: str = "segtune"
) -> Diagnosis:
    """Looks at the machine and the store; with `fix`, repairs what a crash left in the store.

    Args:
        experiment: opened with the store, which makes it on first use; the runs of all experiments are looked at.
    """
    config = TrackingConfig(root=root, uri=uri, experiment=experiment)
    findings = [*_machine(), *_cache(), *_store(config, fix)]
    return Diagnosis(tuple(findings))


def _machine() -> Iterator[Finding]:
    import torch

    yield Finding(
        "segtune", "ok", f"{__version__} on Python {platform.python_version()} ({sys.executable})"
    )
    yield Finding(
        "torch",
        "ok",
        f"{torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores",
    )
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())}
        yield Finding(
            "device", "ok", f"{torch.cuda.device_count()} GPU: {', '.join(sorted(names))}"
        )
    elif torch.version.cuda:
        remedy = "If there is a GPU: check nvidia-smi, the driver, and CUDA_VISIBLE_DEVICES"
        yield Finding(
            "device",
            "warn",
            f"no GPU is found, torch is built for CUDA {torch.version.cuda}",
            remedy,
        )
    else:
        yield Finding("device", "ok", "CPU alone; torch is built without CUDA")
    for extra, modules in _EXTRAS.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        if missing:
            yield Finding(extra, "ok", f"optional, not installed: {', '.join(missing)}",
                          f"Where it is needed: pip install 'segtune[{extra}]'")  # fmt: skip


def _cache() -> Iterator[Finding]:
    from segtune.data.source.files import cache_dir

    folder = cache_dir()
    reason = _write_fault(folder)
    if reason:
        yield Finding("cache", "FAIL", f"{folder}: {reason}", "Set SEGTUNE_CACHE to a folder that can be written",
                      StorageError.exit_code)  # fmt: skip
        return
    sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()] if folder.is_dir() else []
    yield Finding("cache", "ok", f"{folder}: {sum(sizes) / _GB:.2f} GB in {len(sizes)} files")
    yield _disk("cache disk", folder)


def _disk(name: str, folder: Path) -> Finding:
    free = shutil.disk_usage(_existing(folder)).free
    if free < _LITTLE_DISK:
        return Finding(
            name, "warn", f"{free / _GB:.1f} GB free", "Make room: a run needs about a gigabyte"
        )
    return Finding(name, "ok", f"{free / _GB:.1f} GB free")


def _existing(folder: Path) -> Path:
    return next(p for p in (folder, *folder.parents) if p.exists())


def _write_fault(folder: Path) -> str:
    """Why a folder cannot be written; empty where it can. A folder that is not there is not made."""
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"cannot be written: {error}"


def _store(config: TrackingConfig, fix: bool) -> Iterator[Finding]:
    root = Path(os.path.expanduser(config.root)).absolute()
    if config.uri is None and not (root / "mlflow.db").is_file():
        reason = _write_fault(root)
        if reason:
            yield Finding(
                "store",
                "FAIL",
                f"{root}: {reason}",
                "Set tracking.root=DIR",
                StorageError.exit_code,
            )
        else:
            yield Finding("store", "ok", f"{root}: none yet, the first run makes it")
        return
    from segtune.tracking.store import open_store

    try:
        store = open_store(config)
    except SegtuneError as error:
        yield Finding("store", "FAIL", str(error), exit_code=StorageError.exit_code)
        return
    yield Finding("store", "ok", f"{store.uri} opens")
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
        remedy = f"doctor --fix cuts it there ({damage.lost} lines; a copy is kept). Stop the sweep before"
        yield _repaired("journals", text, remedy, fix, partial(_cut, damage))


def _outboxes(store: Any, fix: bool) -> Iterator[Finding]:
    from segtune.tracking.health import broken_outboxes, outbox_files, undeliverable
    from segtune.tracking.run_writer import deliver_outboxes

    for path in broken_outboxes(store.root):
        remedy = "doctor --fix takes the lines out that cannot be read"
        yield _repaired("outboxes", f"{path}: damaged", remedy, fix, partial(_mended, path))
    if broken_outboxes(store.root):
        return
    lost = undeliverable(store)
    for path, reason in lost.items():
        text = f"metrics of run {path.parent.name} were held back, and the run was deleted since"
        remedy = f"Remove {path} to give them up, or: {reason}"
        yield Finding("outboxes", "warn", text, remedy, PartialError.exit_code)
    waiting = [path for path in outbox_files(store.root) if path not in lost]
    if not waiting:
        if not lost:
            yield Finding("outboxes", "ok", "no metrics wait for the tracking server")
        return
    left = deliver_outboxes(store) if fix else len(waiting)
    if left:
        text = f"metrics of {left} runs wait for the tracking server"
        remedy = "doctor --fix sends them; the next sweep does so too"
        yield Finding("outboxes", "warn", text, remedy, PartialError.exit_code)
    else:
        yield Finding(
            "outboxes", "fixed", f"the held-back metrics of {len(waiting)} runs were sent"
        )


def _strays(store: Any, fix: bool) -> Iterator[Finding]:
    from segtune.tracking.health import stray_runs

    strays = stray_runs(store)
    if not strays:
        yield Finding("runs", "ok", "every running run has its process")
    for run in strays:
        text = f"{run.name} ({run.id}) is marked as running, and no process writes it"
        remedy = f"doctor --fix marks it as interrupted; train resume={run.id} goes on with it"
        yield _repaired("runs", text, remedy, fix, partial(_ended, store, run))


def _checkpoints(root: Path, fix: bool) -> Iterator[Finding]:
    from segtune.tracking.health import broken_checkpoints

    broken = broken_checkpoints(root)
    if not broken:
        yield Finding("checkpoints", "ok", "none is cut off")
    for path in broken:
        aside = path.with_name(f"{path.name}.damaged")
        remedy = f"doctor --fix sets it aside as {aside.name}"
        yield _repaired(
            "checkpoints", f"{path}: cut off", remedy, fix, partial(_set_aside, path, aside)
        )


def _repaired(name: str, text: str, remedy: str, fix: bool, repair: Callable[[], Any]) -> Finding:
    if not fix:
        return Finding(name, "warn", text, remedy, PartialError.exit_code)
    try:
        return Finding(name, "fixed", f"{text}: {repair()}")
    except OSError as error:
        return Finding(name, "FAIL", f"{text}: {error}", remedy, StorageError.exit_code)


def _cut(damage: Any) -> str:
    from segtune.sweeping.health import repair_journal

    return f"cut; what it was: {repair_journal(damage)}"


def _mended(path: Path) -> str:
    from segtune.tracking.health import mend_outbox

    return f"{mend_outbox(path)} lines taken out"


def _ended(store: Any, run: Any) -> str:
    from segtune.tracking.health import end_stray

    end_stray(store, run)
    return "marked as interrupted"


def _set_aside(path: Path, aside: Path) -> str:
    return f"now {path.replace(aside)}"
