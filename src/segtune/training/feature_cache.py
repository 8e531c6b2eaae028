"""Features of a frozen encoder, computed once, to train a head on.

Several augmented views of each train image, and the val images as they are, go through the encoder
once. The cache folder holds the feature maps as bf16 files. Every run and worker that trains a head
on the same weights maps these files into its memory.
"""

import copy
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset

from segtune.data.batches.decoded import Decoded, shapes_of
from segtune.data.batches.transforms import Augment
from segtune.data.source.files import cache_dir
from segtune.errors import ConfigError
from segtune.models.folder import state_hash
from segtune.models.segmentation_model import SegmentationModel
from segtune.models.tuning import encoder_of
from segtune.runtime.cache_store import CacheStore
from segtune.runtime.log import Log
from segtune.training.components import RunComponents

Batch = dict[str, Any]
Pairs = Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Images (h, w, 3) with their masks (h, w)."""

_BATCH = 8
_FORMAT = 2  # of the files and of their content: change it to discard earlier features


@dataclass
class FeatureViews(Dataset[Batch]):
    """Encoded images: `views` views of each image, one after the other.

    Attributes:
        levels: each (N * views, C, h, w), bf16 as uint16. A level that the head does not read has
            shape (1, C, h, w).
        masks: (N * views, H, W) uint8.
        size: (height, width) of the encoded images.
    """

    levels: Sequence[NDArray[np.uint16]]
    masks: NDArray[np.uint8]
    size: tuple[int, int]
    views: int
    seed: int

    def __len__(self) -> int:
        return len(self.masks) // self.views

    def __getitems__(self, items: Sequence[Any]) -> Batch:
        """The batch of some draws (see `EpochSampler`), or of some indices for validation."""
        rows = [self._row(*item) if isinstance(item, tuple) else int(item) for item in items]
        features = []
        for level in self.levels:
            if len(level) > 1:
                values = level[rows]
            else:
                values = np.broadcast_to(level, (len(rows), *level.shape[1:])).copy()
            features.append(torch.from_numpy(values).view(torch.bfloat16))
        return {"features": features, "mask": torch.from_numpy(self.masks[rows]), "size": self.size}

    def _row(self, epoch: int, index: int, repeat: int) -> int:
        """The row of a draw: a random view; each repeat in an epoch takes the image's next view."""
        rng = np.random.default_rng([self.seed, epoch, index])
        return index * self.views + (int(rng.integers(self.views)) + repeat) % self.views


def encoded_views(components: RunComponents, say: Log) -> tuple[FeatureViews, FeatureViews] | None:
    """Encode the train and val images of a run that trains its head alone, or open them.

    Returns:
        None for a run without `tuning.cached_views`.

    Raises:
        ConfigError: the model has no separate encoder and head, or val images differ in size.
    """
    tuning, model = components.config.tuning, components.model
    if not tuning.cached_views:
        return None
    _check_cacheable(components)
    augment, seed, views = components.augment, components.config.seed, tuning.cached_views
    encoder_facts = [
        state_hash(encoder_of(model)),
        dict(components.config.template["model"]),  # heads differ in the levels that they read
        seed,
        str(components.step_format),
        list(augment.size(augment.num_epochs)),
    ]
    train_facts = [
        components.train.fingerprint,
        views,
        augment.config.model_dump(mode="json"),
        components.config.plugins,
        *encoder_facts,
        components.config.sampling.model_dump(mode="json"),
    ]
    val_facts = [components.val.fingerprint, *encoder_facts]
    train = _Split(
        name="train",
        facts=train_facts,
        rows=len(components.train) * views,
        views=views,
        pairs=lambda: _augmented(components.train, augment, views, seed),
    )
    val = _Split(
        name="val",
        facts=val_facts,
        rows=len(components.val),
        views=1,
        pairs=lambda: _unchanged(components.val),
    )
    return _cached(components, train, say), _cached(components, val, say)


def _check_cacheable(components: RunComponents) -> None:
    model, config = components.model, components.config
    key = f"tuning.cached_views={config.tuning.cached_views}"
    if not isinstance(model, SegmentationModel) or not model.is_separable:
        raise ConfigError(
            f"{key}: {config.template['name']} cannot be taken apart into encoder and head. Set "
            "tuning.cached_views=0, or choose another template."
        )
    val = components.val
    if len(set(shapes_of(val.images))) > 1 or len(set(shapes_of(val.masks))) > 1:
        raise ConfigError(
            f"{key}: the val images of '{components.source.name}' have several sizes; give "
            "hp.image_size=[width,height], or tuning.cached_views=0."
        )


@dataclass(frozen=True)
class _Split:
    """A split to encode.

    Attributes:
        facts: everything that the features depend on.
        rows: number of views of all images together.
        views: number of views of each image.
        pairs: makes the views.
    """

    name: str
    facts: Sequence[Any]
    rows: int
    views: int
    pairs: Callable[[], Pairs]


def _cached(components: RunComponents, split: _Split, say: Log) -> FeatureViews:
    """Open the features of a split; encode them first if the cache does not hold them."""
    config = components.config
    facts = json.dumps([_FORMAT, split.name, list(config.hp["image_size"]), *split.facts])
    key = hashlib.sha256(facts.encode()).hexdigest()[:24]

    def build(folder: Path) -> None:
        say(
            f"encoding {split.rows} {split.name} views once, for this and every other head on "
            "these weights"
        )
        _encode(components, split, folder)

    return CacheStore(cache_dir() / "features", config.cache.max_gb * 1e9).open(
        key, build, read=lambda folder: _opened(folder, split.views, config.seed)
    )


def _opened(folder: Path, views: int, seed: int) -> FeatureViews:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    levels = [np.load(folder / f"{n}.npy", mmap_mode="r") for n in range(index["levels"])]
    size = (int(index["size"][0]), int(index["size"][1]))
    return FeatureViews(levels, np.load(folder / "mask.npy", mmap_mode="r"), size, views, seed)


@torch.no_grad()  # not inference mode: `_levels_read` needs gradients
def _encode(components: RunComponents, split: _Split, folder: Path) -> None:
    model, device = copy.deepcopy(components.model), components.device
    assert isinstance(model, SegmentationModel)
    step_format = components.step_format
    model.to(device).to(memory_format=step_format.memory_format).eval()
    files: _FeatureFiles | None = None
    for images, masks in _batches(split.pairs()):
        image = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=step_format.bf16):
            features = model.encode(image)
        if files is None:
            size = (images.shape[1], images.shape[2])
            used = _levels_read(model, features, size)
            files = _FeatureFiles(folder, split.rows, size, used, features, masks)
        files.append(features, masks)
    assert files is not None  # a split holds at least one image
    files.finish()


class _FeatureFiles:
    """The files that `_opened` reads, written batch by batch."""

    def __init__(
        self,
        folder: Path,
        rows: int,
        size: tuple[int, int],
        used: Sequence[bool],
        features: Sequence[Tensor],
        masks: NDArray[np.uint8],
    ) -> None:
        self.folder, self.size, self.used, self.written = folder, size, used, 0
        self.levels: list[Any] = []
        for number, (level, is_used) in enumerate(zip(features, used, strict=True)):
            shape = (rows if is_used else 1, *level.shape[1:])
            self.levels.append(_new_array(folder / f"{number}.npy", np.uint16, shape))
        shape = (rows, *masks.shape[1:])
        self.masks = _new_array(folder / "mask.npy", np.uint8, shape)

    def append(self, features: Sequence[Tensor], masks: NDArray[np.uint8]) -> None:
        rows = slice(self.written, self.written + len(masks))
        for level, values, is_used in zip(self.levels, features, self.used, strict=True):
            if is_used:
                bits = values.to(torch.bfloat16).contiguous().view(torch.uint16)
                level[rows] = bits.cpu().numpy()
        self.masks[rows] = masks
        self.written = rows.stop

    def finish(self) -> None:
        for array in (*self.levels, self.masks):
            array.flush()
        index = {"levels": len(self.levels), "size": self.size}
        (self.folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> Any:
    """Return a new array in a file whose space is reserved.

    A full disk is an error here; at a later write into the mapped file it would end the process.
    """
    array = open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # Linux
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _levels_read(
    model: SegmentationModel, features: Sequence[Tensor], size: tuple[int, int]
) -> list[bool]:
    """Whether the head reads each level: its output then has a gradient at the level."""
    leaves = [torch.zeros_like(f[:1], dtype=torch.float32).requires_grad_() for f in features]
    with torch.enable_grad():
        torch.autograd.backward(model.decode(leaves, size, 1).sum())
    model.zero_grad()
    return [leaf.grad is not None for leaf in leaves]


def _augmented(split: Decoded, augment: Augment, views: int, seed: int) -> Pairs:
    for index in range(len(split)):
        for view in range(views):
            rng = np.random.default_rng([seed, view, index])
            yield augment(split.images[index], split.masks[index], index, augment.num_epochs, rng)


def _unchanged(split: Decoded) -> Pairs:
    for index in range(len(split)):
        yield split.images[index], split.masks[index]


def _batches(pairs: Pairs) -> Pairs:
    """Stack pairs in batches: images (B, h, w, 3) with masks (B, h, w)."""
    images: list[NDArray[np.uint8]] = []
    masks: list[NDArray[np.uint8]] = []
    for image, mask in pairs:
        images.append(image)
        masks.append(mask)
        if len(images) == _BATCH:
            yield np.stack(images), np.stack(masks)
            images, masks = [], []
    if images:
        yield np.stack(images), np.stack(masks)
