"""A decoded split: its images and masks as arrays, in memory, mapped or decoded at each access."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.uint8]


class Packed(Sequence[Array]):
    """Arrays of several shapes in one file that is mapped into memory; changes are not saved."""

    def __init__(self, path: Path, shapes: Sequence[tuple[int, ...]]) -> None:
        self.shapes = [tuple(s) for s in shapes]
        ends = np.cumsum([int(np.prod(s)) for s in self.shapes])
        self._starts = [0, *ends.tolist()]
        self._path, self._bytes = path, np.memmap(path, np.uint8, "c")

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]  # no slices
        shape = self.shapes[index]
        index %= len(self.shapes)
        return np.asarray(self._bytes[self._starts[index] : self._starts[index + 1]]).reshape(shape)

    def __reduce__(self) -> tuple[type["Packed"], tuple[Path, list[tuple[int, ...]]]]:
        """Pickle the path: another process maps the file itself."""
        return Packed, (self._path, self.shapes)


class PairReader:
    """Decodes a pair once for both its image and its mask.

    The half that was not asked for is kept until it is, or until another pair is decoded.

    Args:
        read: index -> image and mask.
    """

    def __init__(self, read: Callable[[int], tuple[Array, Array]]) -> None:
        self._read = read
        self._kept: tuple[int, int, Array] | None = None

    def half(self, position: int, index: int) -> Array:
        """The image (position 0) or the mask (position 1) of a pair."""
        kept, self._kept = self._kept, None
        if kept is not None and kept[:2] == (position, index):
            return kept[2]
        pair = self._read(index)
        self._kept = (1 - position, index, pair[1 - position])
        return pair[position]


@dataclass(frozen=True)
class Streamed(Sequence[Array]):
    """Images or masks that are decoded when read, for a split that does not fit into the cache.

    Read image and mask of a pair one after the other: then the pair is decoded once.
    """

    reader: PairReader
    position: int
    shapes: Sequence[tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]  # no slices
        return self.reader.half(self.position, index)


@dataclass(frozen=True)
class Decoded:
    """A decoded split.

    Attributes:
        images: each (h, w, 3) uint8 RGB at the run's image size.
        masks: each (h, w) uint8 of class ids and 255; at the image's size, or as stored.
        fingerprint: sha256 over names, image bytes, mask bytes and class table.
        counts: (N, C) pixels of each class in each mask.
        left_out: name -> reason for the pairs that cannot be read; at most `dataset.tolerance` of
            the split.
        note: on what all masks together hold; empty where there is nothing to say.
    """

    names: tuple[str, ...]
    images: Sequence[Array]
    masks: Sequence[Array]
    fingerprint: str
    counts: NDArray[np.int64] | None = None
    left_out: dict[str, str] | None = None
    note: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def read_pairs(self, indices: Sequence[int]) -> tuple[list[Array], list[Array]]:
        """Images and masks of some pairs; a streamed split decodes each pair once."""
        pairs = [(self.images[index], self.masks[index]) for index in indices]
        return [image for image, _ in pairs], [mask for _, mask in pairs]

    def pixel_counts(self, num_classes: int) -> NDArray[np.int64]:
        """Pixels of each class in each mask, (N, num_classes)."""
        if self.counts is not None and self.counts.shape[1] == num_classes:
            return self.counts
        counts = [np.bincount(m.ravel(), minlength=256)[:num_classes] for m in self.masks]
        return np.array(counts, np.int64)

    def class_shares(self, num_classes: int) -> NDArray[np.float64]:
        """Share of each class among the counted pixels, (num_classes,)."""
        counts = self.pixel_counts(num_classes).sum(0)
        return np.asarray(counts / max(1, counts.sum()), np.float64)


def shapes_of(arrays: Sequence[Array]) -> Sequence[tuple[int, ...]]:
    """The shape of each array; no array is read."""
    return arrays.shapes if isinstance(arrays, Packed | Streamed) else [a.shape for a in arrays]


def spread_evenly(number: int, limit: int) -> list[int]:
    """At most `limit` indices, evenly spread over 0..number - 1.

    >>> spread_evenly(10, 4)
    [0, 2, 5, 7]
    """
    count = min(number, limit)
    return [i * number // count for i in range(count)]


def batches_of_one_size(
    split: Decoded, batch_size: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """Indices of batches for one rank: a batch's images share a size, and so do its masks."""
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    images, masks = shapes_of(split.images), shapes_of(split.masks)
    for index in range(rank, len(split), world_size):
        groups.setdefault((tuple(images[index]), tuple(masks[index])), []).append(index)
    batches = []
    for group in groups.values():
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    return batches
