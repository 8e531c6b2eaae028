"""Copy batches to a GPU while it computes."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric.utilities import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection
from torch.utils.data import DataLoader, Sampler


class Prefetched:
    """The batches of a loader, each copied during the step before it.

    The copies run on their own CUDA stream: on the stream that computes, each step would wait for
    the copy of its batch.

    Args:
        loader: of batches in pinned memory.
        device: a CUDA device.
    """

    def __init__(self, loader: DataLoader[Any], device: torch.device) -> None:
        self.loader, self.device = loader, device

    @property
    def sampler(self) -> Sampler[Any] | Any:
        """The loader's sampler: Lightning sets its epoch."""
        return self.loader.sampler

    @property
    def batch_sampler(self) -> Any:
        """The loader's batch sampler: Lightning checks whether it shuffles."""
        return self.loader.batch_sampler

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        copy_stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # no annotation
        previous: tuple[Any, torch.cuda.Event] | None = None
        for batch in self.loader:
            with torch.cuda.stream(copy_stream):
                copied = move_data_to_device(batch, self.device), copy_stream.record_event()
            if previous is not None:
                yield self._hand_over(*previous)
            previous = copied
        if previous is not None:
            yield self._hand_over(*previous)

    def _hand_over(self, batch: Any, copied: torch.cuda.Event) -> Any:
        """Make the computing stream wait for the copy, and keep the memory until its use."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(copied)
        apply_to_collection(batch, torch.Tensor, lambda tensor: tensor.record_stream(stream))
        return batch
