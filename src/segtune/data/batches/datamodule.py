"""Batches for training and validation: `{"image": (B, 3, H, W) uint8, "mask": (B, H, W) uint8}`, from memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from segtune.config.dataset_schema import SamplingConfig
from segtune.data.batches.cache import Decoded, batches_of_one_size
from segtune.data.batches.prefetch import Prefetched
from segtune.data.batches.sampling import Sampling, repeats
from segtune.data.batches.transforms import Augment

Batch = dict[str, torch.Tensor]

Draw = tuple[int, int, int]
"""Epoch, index of an image, and how often the epoch has drawn that image before."""


class EpochSampler(Sampler[Draw]):
    """Draws of an epoch: the order depends on seed and epoch alone, so that a resumed run sees the same."""

    def __init__(self, sampling: Sampling, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.sampling, self.length = sampling, len(sampling.counts)
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world_size

    def __iter__(self) -> Iterator[Draw]:
        order = self.sampling.order(self.seed, self.epoch)
        draws = [(self.epoch, int(i), int(n)) for i, n in zip(order, repeats(order), strict=True)]
        return iter(
            draws[self.rank :: self.world_size][: len(self)]
        )  # a rank with a longer share would wait forever


@dataclass
class TrainViews(Dataset[Batch]):
    """Augmented views, made a batch at a time."""

    split: Decoded
    augment: Augment
    seed: int

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, items: Sequence[Draw]) -> Batch:
        epoch = items[0][0]
        height, width = self.augment.size(epoch)
        images = np.empty((len(items), height, width, 3), np.uint8)
        masks = np.empty((len(items), height, width), np.uint8)
        for row, (_, index, repeat) in enumerate(items):
            rng = np.random.default_rng([self.seed, epoch, index, repeat])
            image, mask = self.split.images[index], self.split.masks[index]
            images[row], masks[row] = self.augment(image, mask, index, epoch, rng)
        return {
            "image": torch.from_numpy(images).permute(0, 3, 1, 2),
            "mask": torch.from_numpy(masks),
        }


@dataclass
class WholeImages(Dataset[Batch]):
    """Whole images with their masks as stored; a batch holds images of one size."""

    split: Decoded

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, items: Sequence[int]) -> Batch:
        images = np.stack([self.split.images[i] for i in items])
        masks = np.stack([self.split.masks[i] for i in items])
        return {
            "image": torch.from_numpy(images).permute(0, 3, 1, 2),
            "mask": torch.from_numpy(masks),
        }


class SegmentationData(pl.LightningDataModule):
    """Loaders over two decoded splits; a rank of several sees its share of both.

    On a GPU the batches are copied ahead of the steps.

    Args:
        workers: processes that make batches ahead; 0 makes them in this process, when they are asked for.
        collate: adds to a batch of image and mask what else a step needs.
        views: train and val sets of batches that stand in for images.
        at_once: images that are validated at once, at most; as many as are trained on by default.
    """

    def __init__(
        self,
        train: Decoded,
        val: Decoded,
        augment: Augment,
        batch_size: int,
        seed: int,
        workers: int = 0,
        collate: Callable[[Batch], Batch] = lambda batch: batch,
        views: tuple[Dataset[Any], Dataset[Any]] | None = None,
        at_once: int | None = None,
    ) -> None:
        super().__init__()
        self.views = views
        self.collate = collate
        self.sampling = augment.sampling or Sampling(
            SamplingConfig(), np.zeros((len(train), 0), np.int64)
        )
        self.train, self.val, self.augment = train, val, augment
        self.batch_size, self.seed, self.workers = batch_size, seed, workers
        self.at_once = at_once or batch_size

    def train_dataloader(self) -> DataLoader[Batch] | Prefetched:
        """Shuffled and augmented; the last incomplete batch is dropped, unless it is the only one."""
        sampler = EpochSampler(self.sampling, self.seed, *self._place())
        views = self.views[0] if self.views else TrainViews(self.train, self.augment, self.seed)
        last = len(sampler) >= self.batch_size
        return self._loader(views, batch_size=self.batch_size, sampler=sampler, drop_last=last)

    def val_dataloader(self) -> DataLoader[Batch] | Prefetched:
        """Whole images in a fixed order."""
        batches = batches_of_one_size(
            self.val, val_batch_size(self.at_once, self._device), *self._place()
        )
        images = self.views[1] if self.views else WholeImages(self.val)
        return self._loader(images, batch_sampler=batches)

    def _loader(self, views: Dataset[Any], **how: Any) -> DataLoader[Batch] | Prefetched:
        device = self._device
        loader: DataLoader[Batch] = DataLoader(
            views,
            collate_fn=self.collate,  # type: ignore[arg-type]  # the views are made a batch at a time
            num_workers=self.workers,
            worker_init_fn=_one_thread,
            persistent_workers=self.workers > 0,
            pin_memory=device.type == "cuda",
            **how,
        )
        return Prefetched(loader, device) if device.type == "cuda" else loader

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def val_batch_size(batch_size: int, device: torch.device) -> int:
    """Images that are validated at once: a CPU takes half the time for each where they are few (LOG.md)."""
    return batch_size if device.type == "cuda" else min(batch_size, 4)


def _one_thread(_: int) -> None:
    """Each process that makes batches is one of many: OpenCV would start a thread for every core in each."""
    cv2.setNumThreads(
        0
    )  # 1 would wait for the threads of the process that it was forked from, for ever
