"""Checkpoints that are written beside the steps which come after them."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.plugins.io import TorchCheckpointIO

from segtune.runtime.retry import with_backoff


class Checkpoints(TorchCheckpointIO):
    """Copies a checkpoint, and has a thread write it, whole or not at all; the one before is waited for.

    What kept a thread from writing is raised by whatever waits next.

    Attributes:
        seconds: that the last one took to copy and write.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._written: Future[None] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Called by Lightning."""
        self.wait()
        started = time.monotonic()
        copied = apply_to_collection(
            checkpoint, torch.Tensor, lambda t: t.detach().to("cpu", copy=True)
        )
        spent = time.monotonic() - started

        def write() -> None:
            begun = time.monotonic()
            super(Checkpoints, self).save_checkpoint(copied, path, storage_options)
            self.seconds = spent + time.monotonic() - begun

        self._written = self._thread.submit(with_backoff, write)  # a full disk, perhaps

    def wait(self) -> None:
        """Until what was begun is written."""
        if self._written:
            written, self._written = self._written, None
            written.result()

    def teardown(self) -> None:
        """Called by Lightning when training ends, however it ends."""
        self.wait()
        self._thread.shutdown()
