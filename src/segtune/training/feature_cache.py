"""Features of a frozen encoder, computed once: what a head is trained on when nothing before it changes.

Several augmented views of each train image, and the val images as they are, go through the encoder once. The maps lie
in the cache folder as bf16, mapped into the memory of every run and worker that trains a head on these weights.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from segtune.data.batches.decoded import Decoded, shapes_of
from segtune.data.batches.transforms import Augment
from segtune.data.source.files import cache_dir
from segtune.errors import ConfigError
from segtune.models.folder import state_hash
from segtune.models.segmentation_model import SegmentationModel
from segtune.models.tuning import encoder_of
from segtune.runtime.log import Log
from segtune.training.components import RunComponents

Batch = dict[str, Any]
Views = Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
_BATCH = 8
_FORMAT = 2  # of what is kept: features that were made in another way are not used


@dataclass
class FeatureViews(Dataset[Batch]):
    """Encoded views: `views` of each image, one after the other.

    Attributes:
        levels: each (N * views, C, h, w), bf16 as uint16; a level that the head does not read has shape (1, C, h, w).
        masks: (N * views, H, W) uint8.
        size: (height, width) of the images that were encoded.
    """

    levels: Sequence[NDArray[np.uint16]]
    masks: NDArray[np.uint8]
    size: tuple[int, int]
    views: int
    seed: int

    def __len__(self) -> int:
        return len(self.masks) // self.views

    def __getitems__(self, items: Sequence[Any]) -> Batch:
        """A batch of draws (see `EpochSampler`), each in one of its views; or of indices, for validation."""
        rows = [self._row(*item) if isinstance(item, tuple) else int(item) for item in items]
        maps = []
        for level in self.levels:
            read = (
                level[rows]
                if len(level) > 1
                else np.broadcast_to(level, (len(rows), *level.shape[1:])).copy()
            )
            maps.append(torch.from_numpy(read).view(torch.bfloat16))
        return {"features": maps, "mask": torch.from_numpy(self.masks[rows]), "size": self.size}

    def _row(self, epoch: int, index: int, repeat: int) -> int:
        """The view of a draw: an image that is drawn again shows its next view, all of them before one comes twice."""
        rng = np.random.default_rng([self.seed, epoch, index])
        return index * self.views + (int(rng.integers(self.views)) + repeat) % self.views


def encoded_views(setup: RunComponents, say: Log) -> tuple[FeatureViews, FeatureViews] | None:
    """Train and val views of a run whose head alone is trained; None where it caches none.

    Raises:
        ConfigError: an architecture whose encoder and head cannot be taken apart, or val images of several sizes.
    """
    tuning, model = setup.config.tuning, setup.model
    if not tuning.cached_views:
        return None
    if not isinstance(model, SegmentationModel) or not model.is_separable:
        raise ConfigError(
            f"tuning.cached_views={tuning.cached_views}: {setup.config.template['name']} cannot be taken apart into "
            "encoder and head. Set tuning.cached_views=0, or choose another template."
        )
    if len(set(shapes_of(setup.val.images))) > 1 or len(set(shapes_of(setup.val.masks))) > 1:
        raise ConfigError(
            f"tuning.cached_views={tuning.cached_views}: the val images of '{setup.source.name}' have several sizes; "
            "give hp.image_size=[width,height], or tuning.cached_views=0."
        )
    augment, seed, views = setup.augment, setup.config.seed, tuning.cached_views
    digest = state_hash(encoder_of(model))
    net = dict(setup.config.template["model"])  # heads differ in the levels that they read
    told = [digest, net, seed, str(setup.how), list(augment.size(augment.num_epochs))]
    about = [setup.train.fingerprint, views, augment.config.model_dump(mode="json"), *told]
    about.append(setup.config.sampling.model_dump(mode="json"))
    train = _kept(
        setup, "train", about, lambda: _augmented(setup.train, augment, views, seed), views, say
    )
    val = _kept(setup, "val", [setup.val.fingerprint, *told], lambda: _plain(setup.val), 1, say)
    return train, val


def _kept(
    setup: RunComponents,
    split: str,
    about: Sequence[Any],
    make: Callable[[], Views],
    views: int,
    say: Log,
) -> FeatureViews:
    told = json.dumps([_FORMAT, split, list(setup.config.hp["image_size"]), *about])
    key = hashlib.sha256(told.encode()).hexdigest()[:24]
    folder = cache_dir() / "features" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            number = len(setup.train if split == "train" else setup.val) * views
            say(
                f"encoding {number} {split} views once, for this and every other head on these weights"
            )
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            _encode(setup, make(), number, unfinished)
            unfinished.replace(folder)
            _make_room(folder, setup.config.cache.max_gb)
        os.utime(folder)
        return _opened(
            folder, views, setup.config.seed
        )  # before the lock is free: then it may be removed


def _opened(folder: Path, views: int, seed: int) -> FeatureViews:
    about = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    levels = [np.load(folder / f"{n}.npy", mmap_mode="r") for n in range(about["levels"])]
    size = (int(about["size"][0]), int(about["size"][1]))
    return FeatureViews(levels, np.load(folder / "mask.npy", mmap_mode="r"), size, views, seed)


def _make_room(kept: Path, max_gb: float) -> None:
    """Removes the least recently used features until all take no more than that.

    Features that another process makes or opens right now stay; a process that has opened them keeps its maps.
    """
    folders = [
        (p, _bytes_in(p), _used_at(p))
        for p in kept.parent.iterdir()
        if p.suffix != ".lock" and p != kept
    ]
    total = _bytes_in(kept)
    for folder, size, _ in sorted(folders, key=lambda f: -f[2]):
        total += size
        if total > max_gb * 1e9:
            _remove(folder)


def _bytes_in(folder: Path) -> int:
    sizes = []
    with suppress(FileNotFoundError):  # another process removes them
        sizes = [file.stat().st_size for file in folder.iterdir()]
    return sum(sizes)


def _used_at(folder: Path) -> float:
    with suppress(FileNotFoundError):
        return folder.stat().st_mtime
    return 0.0


def _remove(folder: Path) -> None:
    """Removes features whose lock is free; under another name first, so that no half of them is ever read."""
    try:
        with FileLock(folder.with_suffix(".lock"), timeout=0):
            unfinished = folder.with_suffix(".unfinished")
            if folder != unfinished:
                shutil.rmtree(unfinished, ignore_errors=True)
                folder.replace(unfinished)
            shutil.rmtree(unfinished, ignore_errors=True)
    except (Timeout, FileNotFoundError):  # another process opens them, or was first
        pass


@torch.no_grad()  # not inference mode: the weights that change their format here are trained afterwards
def _encode(setup: RunComponents, pairs: Views, number: int, folder: Path) -> None:
    model = setup.model
    assert isinstance(model, SegmentationModel)
    model.to(setup.device).to(memory_format=setup.how.memory_format).eval()
    maps: list[Any] = []
    masks: Any = None
    size, done, used = (0, 0), 0, list[bool]()
    for images, batch in _batches(pairs):
        image = torch.from_numpy(images).permute(0, 3, 1, 2).to(setup.device)
        with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.how.bf16):
            found = model.encode(image)
        if masks is None:
            size, used = (
                (images.shape[1], images.shape[2]),
                _used(model, found, (images.shape[1], images.shape[2])),
            )
            shapes = [(number if u else 1, *f.shape[1:]) for f, u in zip(found, used, strict=True)]
            maps = [
                open_memmap(folder / f"{n}.npy", "w+", np.uint16, s) for n, s in enumerate(shapes)
            ]
            masks = open_memmap(folder / "mask.npy", "w+", np.uint8, (number, *batch.shape[1:]))
        for level, values, is_used in zip(maps, found, used, strict=True):
            if is_used:
                bits = values.to(torch.bfloat16).contiguous().view(torch.uint16)
                level[done : done + len(batch)] = bits.cpu().numpy()
        masks[done : done + len(batch)] = batch
        done += len(batch)
    for array in (*maps, masks):
        array.flush()
    (folder / "index.json").write_text(
        json.dumps({"levels": len(maps), "size": size}), encoding="utf-8"
    )


def _used(
    model: SegmentationModel, features: Sequence[Tensor], size: tuple[int, int]
) -> list[bool]:
    """Which levels the head reads: those that its output changes with."""
    leaves = [torch.zeros_like(f[:1], dtype=torch.float32).requires_grad_() for f in features]
    with torch.enable_grad():
        torch.autograd.backward(model.decode(leaves, size, 1).sum())
    model.zero_grad()
    return [leaf.grad is not None for leaf in leaves]


def _augmented(split: Decoded, augment: Augment, views: int, seed: int) -> Views:
    for index in range(len(split)):
        for view in range(views):
            rng = np.random.default_rng([seed, view, index])
            yield augment(split.images[index], split.masks[index], index, augment.num_epochs, rng)


def _plain(split: Decoded) -> Views:
    for index in range(len(split)):
        yield split.images[index], split.masks[index]


def _batches(pairs: Views) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    waiting = []
    for pair in pairs:
        waiting.append(pair)
        if len(waiting) == _BATCH:
            yield np.stack([i for i, _ in waiting]), np.stack([m for _, m in waiting])
            waiting = []
    if waiting:
        yield np.stack([i for i, _ in waiting]), np.stack([m for _, m in waiting])
