"""Batches on their way to a GPU while it computes."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric.utilities import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection
from torch.utils.data import DataLoader, Sampler


class Prefetched:
    """The batches of a loader, each copied on a stream of its own during the step before it.

    A copy on the stream that computes would make the step after it wait for the bytes.

    Args:
        loader: of batches in pinned memory.
        device: a CUDA device.
    """

    def __init__(self, loader: DataLoader[Any], device: torch.device) -> None:
        self.loader, self.device = loader, device

    @property
    def sampler(self) -> Sampler[Any] | Any:
        """The loader's: Lightning tells it the epoch."""
        return self.loader.sampler

    @property
    def batch_sampler(self) -> Any:
        """The loader's: Lightning looks whether it shuffles."""
        return self.loader.batch_sampler

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        aside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # torch annotates nothing there
        waiting: tuple[Any, torch.cuda.Event] | None = None
        for batch in self.loader:
            with torch.cuda.stream(aside):
                on_its_way = move_data_to_device(batch, self.device), aside.record_event()
            if waiting is not None:
                yield self._arrived(*waiting)
            waiting = on_its_way
        if waiting is not None:
            yield self._arrived(*waiting)

    def _arrived(self, batch: Any, copied: torch.cuda.Event) -> Any:
        """The batch, for the stream that computes: it waits for the copy, and its memory is not reused before."""
        now = torch.cuda.current_stream(self.device)
        now.wait_event(copied)
        apply_to_collection(batch, torch.Tensor, lambda tensor: tensor.record_stream(now))
        return batch
