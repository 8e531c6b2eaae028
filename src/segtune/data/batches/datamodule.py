"""Batches in memory: `{"image": (B, 3, H, W) uint8, "mask": (B, H, W) uint8}`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import SamplingConfig
from segtune.data.batches.decoded import Decoded, batches_of_one_size
from segtune.data.batches.prefetch import Prefetched
from segtune.data.batches.sampling import Sampling, repeats
from segtune.data.batches.transforms import Augment
from segtune.data.batches.unlabelled import Unlabelled

Batch = dict[str, torch.Tensor]

_TIMEOUT = 600  # seconds after which a process that makes no batch is taken for hanging

Draw = tuple[int, int, int]
"""Epoch, index of an image, and how often the epoch has drawn that image before."""


def epoch_images(labelled: int, unlabelled: int) -> int:
    """Number of images of an epoch: at most as many without a mask as with one.

    >>> epoch_images(20, 0), epoch_images(20, 5), epoch_images(20, 1000)
    (20, 25, 40)
    """
    return labelled + min(labelled, unlabelled)


class EpochSampler(Sampler[Draw]):
    """The draws of an epoch; they depend on seed and epoch alone, so a resumed run repeats them.

    Args:
        unlabelled: number of images without masks, whose indices follow those of the others.
    """

    def __init__(
        self,
        sampling: Sampling,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        unlabelled: int = 0,
    ) -> None:
        self.sampling, self.unlabelled = sampling, unlabelled
        self.length = epoch_images(len(sampling.counts), unlabelled)
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world_size

    def __iter__(self) -> Iterator[Draw]:
        order = self.sampling.order(self.seed, self.epoch)
        if self.unlabelled:
            rng = np.random.default_rng([self.seed, self.epoch, self.unlabelled])
            drawn = rng.permutation(self.unlabelled)[: self.length - len(order)]
            order = rng.permutation(np.concatenate([order, len(order) + drawn]))
        draws = [(self.epoch, int(i), int(n)) for i, n in zip(order, repeats(order), strict=True)]
        share = draws[self.rank :: self.world_size]
        return iter(share[: len(self)])  # a rank with one more draw would wait forever


@dataclass
class TrainViews(Dataset[Batch]):
    """Augmented views of a split, one batch per access."""

    split: Decoded
    augment: Augment
    seed: int
    unlabelled: Unlabelled | None = None

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, items: Sequence[Draw]) -> Batch:
        epoch = items[0][0]
        height, width = self.augment.size(epoch)
        images = np.empty((len(items), height, width, 3), np.uint8)
        masks = np.empty((len(items), height, width), np.uint8)
        for row, (_, index, repeat) in enumerate(items):
            rng = np.random.default_rng([self.seed, epoch, index, repeat])
            if index >= len(self.split):
                images[row], masks[row] = self._without_mask(index - len(self.split), epoch, rng)
                continue
            image, mask = self.split.images[index], self.split.masks[index]
            images[row], masks[row] = self.augment(image, mask, index, epoch, rng)
        batch = _batch(images, masks)
        if self.unlabelled is not None:
            batch["taught"] = batch["mask"] != IGNORE_INDEX
            is_unlabelled = [index >= len(self.split) for _, index, _ in items]
            batch["mask"][is_unlabelled] = IGNORE_INDEX
        return batch

    def _without_mask(
        self, index: int, epoch: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A view of an image without a mask; the view's mask is 0 inside of the image."""
        assert self.unlabelled is not None
        image = self.unlabelled.images[index]
        augment = replace(self.augment, sampling=None)  # which reads the classes of masks
        return augment(image, np.zeros(image.shape[:2], np.uint8), index, epoch, rng)


@dataclass
class WholeImages(Dataset[Batch]):
    """Whole images with their masks as stored; all images of a batch have one size."""

    split: Decoded

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, items: Sequence[int]) -> Batch:
        images, masks = self.split.read_pairs(items)
        return _batch(np.stack(images), np.stack(masks))


def _batch(images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> Batch:
    """Tensors of images (B, H, W, 3), whose channels stay neighbours in memory, and masks."""
    return {"image": torch.from_numpy(images).permute(0, 3, 1, 2), "mask": torch.from_numpy(masks)}


@dataclass(frozen=True)
class LoaderOptions:
    """How a data module makes its batches.

    Attributes:
        batch_size: images of a training batch.
        seed: of the order and the augmentation.
        workers: processes that make batches ahead; with 0 this process makes each batch on demand.
        max_val_batch: most images of a validation batch; None for `batch_size`.
        collate: adds to a batch of image and mask whatever else a step needs.
    """

    batch_size: int
    seed: int = 0
    workers: int = 0
    max_val_batch: int | None = None
    collate: Callable[[Batch], Batch] = lambda batch: batch


class SegmentationData(pl.LightningDataModule):
    """Loaders over two decoded splits; each rank sees its share of both.

    On a GPU the batches are copied ahead of the steps.

    Args:
        views: sets of train and val batches that replace those of images.
        unlabelled: further train images without masks.
    """

    def __init__(
        self,
        train: Decoded,
        val: Decoded,
        augment: Augment,
        options: LoaderOptions,
        views: tuple[Dataset[Any], Dataset[Any]] | None = None,
        unlabelled: Unlabelled | None = None,
    ) -> None:
        super().__init__()
        self.val, self.options, self.unlabelled = val, options, unlabelled
        self.sampling = augment.sampling or Sampling(
            SamplingConfig(), np.zeros((len(train), 0), np.int64)
        )
        self.views = views or (
            TrainViews(train, augment, options.seed, unlabelled),
            WholeImages(val),
        )

    def train_dataloader(self) -> DataLoader[Batch] | Prefetched:
        """Shuffled, augmented batches; an incomplete last one is dropped unless it is the only."""
        unlabelled = 0 if self.unlabelled is None else len(self.unlabelled)
        sampler = EpochSampler(
            self.sampling, self.options.seed, *self._rank_and_size(), unlabelled=unlabelled
        )
        return self._loader(
            self.views[0],
            batch_size=self.options.batch_size,
            sampler=sampler,
            drop_last=len(sampler) >= self.options.batch_size,
        )

    def val_dataloader(self) -> DataLoader[Batch] | Prefetched:
        """Batches of whole images in a fixed order."""
        limit = self.options.max_val_batch or self.options.batch_size
        batches = batches_of_one_size(
            self.val, val_batch_size(limit, self._device), *self._rank_and_size()
        )
        return self._loader(self.views[1], batch_sampler=batches)

    def _loader(self, views: Dataset[Any], **batching: Any) -> DataLoader[Batch] | Prefetched:
        device, workers = self._device, self.options.workers
        loader: DataLoader[Batch] = DataLoader(
            views,
            collate_fn=self.options.collate,  # type: ignore[arg-type]  # views are whole batches
            num_workers=workers,
            worker_init_fn=_use_one_thread,
            persistent_workers=workers > 0,
            timeout=_TIMEOUT if workers else 0,
            pin_memory=device.type == "cuda",
            **batching,
        )
        return Prefetched(loader, device) if device.type == "cuda" else loader

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def _rank_and_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def val_batch_size(batch_size: int, device: torch.device) -> int:
    """Images of a validation batch: a CPU needs half the time per image in small ones (LOG.md)."""
    return batch_size if device.type == "cuda" else min(batch_size, 4)


def _use_one_thread(_: int) -> None:
    """Keep OpenCV to one thread: else each of many worker processes starts one per core."""
    cv2.setNumThreads(0)  # 1 would wait forever for threads of the process that forked this one
