"""The files from which a run is resumed, in its folder.

`last.ckpt` is the newest checkpoint, `previous.ckpt` the one before it, for the case that the
newest one is damaged. `best.safetensors` holds the weights of the best epoch so far.
"""

import io
import time
import zipfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError, safe_open

from segtune.errors import DataError
from segtune.runtime.archives import check_size
from segtune.runtime.atomic import atomic_file, to_disk
from segtune.runtime.log import Log
from segtune.runtime.regular import check_regular
from segtune.runtime.retry import reason_of, with_backoff

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"
BEST = "best.safetensors"
_KEYS = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step"}


class CheckpointWriter(TorchCheckpointIO):
    """Writes checkpoints in a thread, while the next steps run.

    A checkpoint is copied first, so later steps do not change it. Each call waits for the
    checkpoint before, and raises the error that kept it from being written.

    Attributes:
        seconds: time to copy and write the last checkpoint.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Copy a checkpoint, and write the copy in the thread; Lightning calls this."""
        self.wait()
        started = time.monotonic()
        copied = apply_to_collection(
            checkpoint, torch.Tensor, lambda tensor: tensor.detach().to("cpu", copy=True)
        )
        copy_seconds = time.monotonic() - started

        def write() -> None:
            write_started = time.monotonic()
            _write(copied, Path(path))
            self.seconds = copy_seconds + time.monotonic() - write_started

        self._pending = self._thread.submit(with_backoff, write)  # the disk may be full for a while

    def wait(self) -> None:
        """Wait until the last checkpoint is written."""
        if self._pending:
            pending, self._pending = self._pending, None
            pending.result()

    def teardown(self) -> None:
        """Write what is pending; Lightning calls this when training ends, also after an error."""
        self.wait()
        self._thread.shutdown()


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, and keep the one before; a kill leaves at least one that is complete."""
    content = io.BytesIO()  # torch's own writer hides which error a full disk raises
    torch.save(checkpoint, content)
    with atomic_file(path, shared=True) as unfinished:
        unfinished.write_bytes(content.getbuffer())
        to_disk(unfinished)
        if path.exists():
            path.replace(path.with_name(PREVIOUS))
    to_disk(path.parent)


def saved_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder, the newest first."""
    return [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]


def remove_checkpoints(folder: Path, all_of_them: bool) -> None:
    """Remove what a finished run no longer needs, and files that a kill left unfinished.

    Args:
        all_of_them: nobody can extend the run, so it needs no checkpoint at all.
    """
    names = (PREVIOUS, LAST, BEST) if all_of_them else (PREVIOUS,)
    for path in [*(folder / name for name in names), *folder.glob(".*.part")]:
        path.unlink(missing_ok=True)


def usable_checkpoint(folder: Path, model: torch.nn.Module, restart: bool, say: Log) -> Path | None:
    """Find the checkpoint from which a resumed run continues; it becomes `last.ckpt`.

    Args:
        folder: the run's folder.
        restart: start again at the first epoch, with a message, if the checkpoint is unusable.

    Returns:
        None if the run starts again at its first epoch.

    Raises:
        DataError: the checkpoint is damaged, or belongs to another model.
    """
    paths, errors = saved_checkpoints(folder), []
    for path in paths:
        try:
            check_fits(read_checkpoint(path), model, path)
        except DataError as error:
            errors.append(error)
            continue
        if path.name != LAST:
            reason = errors[0] if errors else f"'{folder / LAST}' is missing."
            say(f"run {folder.name} continues from the checkpoint before its last one: {reason}")
            path.replace(folder / LAST)
        return folder / LAST
    if not errors:
        say(f"run {folder.name} has no checkpoint here: it starts again at epoch 1")
        return None
    if not restart:
        raise errors[0]
    say(f"run {folder.name} starts again at epoch 1: {errors[0]}")
    for path in paths:
        path.unlink()
    return None


def check_resumable(folder: Path) -> None:
    """Check that one of the checkpoints in a run's folder can be read.

    Raises:
        DataError: none can.
    """
    errors = []
    for path in saved_checkpoints(folder):
        try:
            read_checkpoint(path)
            return
        except DataError as error:
            errors.append(error)
    raise errors[0]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; the tensors stay on disk, mapped into memory.

    Raises:
        DataError: the checkpoint, or the best weights beside it, cannot be read.
    """
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:  # torch itself compares no checksums
            check_size(archive, path.stat().st_size)  # torch compresses nothing
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} in it differs")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file may raise anything
        raise DataError(unusable(path, reason_of(error))) from None
    if not isinstance(checkpoint, dict) or not set(checkpoint) >= _KEYS:
        raise DataError(unusable(path, "parts of it are missing"))
    if not isinstance(checkpoint["epoch"], int) or not isinstance(checkpoint["state_dict"], dict):
        raise DataError(unusable(path, "its epoch is no number, or its weights have no names"))
    if checkpoint["epoch"] >= 0 and _follows_validation(checkpoint):
        try:
            check_regular(path.with_name(BEST))
            with safe_open(path.with_name(BEST), "pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise DataError(unusable(path.with_name(BEST), reason_of(error))) from None
    return checkpoint


def _follows_validation(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a validation came before the checkpoint, so that it has best weights beside it."""
    callbacks = checkpoint.get("callbacks")
    states = callbacks.values() if isinstance(callbacks, Mapping) else ()
    epochs = [state.get("best_epoch") for state in states if isinstance(state, Mapping)]
    return any(isinstance(epoch, int) and epoch >= 0 for epoch in epochs)


def check_fits(checkpoint: Mapping[str, Any], model: torch.nn.Module, path: Path) -> None:
    """Compare the tensors of a checkpoint with those of a model, by name and shape.

    Raises:
        DataError: they differ.
    """
    expected, stored = model.state_dict(), checkpoint["state_dict"]
    differing = sorted(map(str, expected.keys() ^ stored.keys()))
    for name in sorted(expected.keys() & stored.keys()):
        if expected[name].shape != getattr(stored[name], "shape", None):
            differing.append(name)
    if differing:
        raise DataError(
            unusable(
                path,
                f"it is of another model: {len(differing)} of {len(expected)} tensors differ, as "
                f"{min(differing)}",
            )
        )


def unusable(path: Path, reason: str) -> str:
    """Return the message for a checkpoint that cannot be used."""
    return (
        f"'{path}' cannot be used ({reason}). Restore the file, or train anew with the run's own "
        "command (see its config.yaml)."
    )
