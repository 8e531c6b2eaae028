"""A split decoded once and kept in memory as bytes, checked while it is read."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.data.images import read_image, read_mask, resize_image, resize_mask, target_size
from segtune.data.sources import Pair, Source
from segtune.errors import DataError


@dataclass(frozen=True)
class Decoded:
    """A split in memory.

    Attributes:
        images: each (h, w, 3) uint8 RGB at the run's image size.
        masks: each (h, w) uint8 of class ids and 255 for ignore; at the image's size, or as stored.
        fingerprint: sha256 over names, image bytes, mask bytes and class table.
    """

    names: tuple[str, ...]
    images: tuple[NDArray[np.uint8], ...]
    masks: tuple[NDArray[np.uint8], ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.images)

    def class_shares(self, num_classes: int) -> NDArray[np.float64]:
        """Share of each class among the pixels that count, (num_classes,)."""
        counts = np.sum([np.bincount(m.ravel(), minlength=256)[:num_classes] for m in self.masks], axis=0)
        return np.asarray(counts / max(1, counts.sum()), np.float64)


_KEPT: dict[tuple[object, ...], Decoded] = {}


def load_split(source: Source, split: str, image_size: Sequence[int], stored_masks: bool = False) -> Decoded:
    """Reads, checks and keeps a split; a second call in the same process costs nothing.

    Args:
        stored_masks: keep masks as stored (what validation compares with), not at the image's size.

    Raises:
        DataError: a pair that does not decode, masks of another size than their image, or unknown ids.
    """
    key = (source.root, split, tuple(image_size), stored_masks, source.config.model_dump_json())
    if key not in _KEPT:
        _KEPT[key] = _decode(source, split, image_size, stored_masks)
    return _KEPT[key]


def file_fingerprint(source: Source) -> str:
    """sha256 over the names and bytes of all train and val files and the class table, without decoding any."""

    def digest(pair: Pair) -> bytes:
        both = hashlib.sha256(_bytes_of(pair.image)).digest() + hashlib.sha256(_bytes_of(pair.mask)).digest()
        return pair.image.name.encode() + both

    total = _table_hash(source)
    with ThreadPoolExecutor() as pool:
        for row in pool.map(digest, [*source.pairs("train"), *source.pairs("val")]):
            total.update(row)
    return total.hexdigest()


_DIGESTS: dict[tuple[object, ...], Mapping[str, bytes]] = {}


def _image_digests(source: Source, split: str) -> Mapping[str, bytes]:
    """sha256 of each image file's bytes, by the image's name; kept, for trial after trial asks."""
    key = (source.root, split, source.config.model_dump_json())
    if key not in _DIGESTS:
        pairs = source.pairs(split)
        with ThreadPoolExecutor() as pool:
            hashes = pool.map(lambda p: hashlib.sha256(_bytes_of(p.image)).digest(), pairs)
            _DIGESTS[key] = {p.image.stem: h for p, h in zip(pairs, hashes, strict=True)}
    return _DIGESTS[key]


def duplicates_in_train(source: Source, split: str) -> tuple[str, ...] | None:
    """Images of a split whose bytes lie in the train split too; None where there is no train split to look at."""
    try:
        train = set(_image_digests(source, "train").values())
    except DataError:
        return None
    return tuple(name for name, digest in _image_digests(source, split).items() if digest in train)


def _table_hash(source: Source) -> "hashlib._Hash":
    return hashlib.sha256(repr((source.classes.names, source.config.label_map, source.config.ignore)).encode())


def batches_of_one_size(split: Decoded, batch_size: int, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    """Indices in batches whose images share a size and whose masks share one; of several ranks, the share of one."""
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for index in range(rank, len(split), world_size):
        image, mask = split.images[index], split.masks[index]
        groups.setdefault((image.shape, mask.shape), []).append(index)
    return [g[i : i + batch_size] for g in groups.values() for i in range(0, len(g), batch_size)]


def _decode(source: Source, split: str, image_size: Sequence[int], stored_masks: bool) -> Decoded:
    lookup = _id_lookup(source)

    def read(pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.uint8], bytes]:
        image_bytes, mask_bytes = _bytes_of(pair.image), _bytes_of(pair.mask)
        image, mask = read_image(image_bytes), read_mask(mask_bytes, str(pair.mask))
        if image.shape[:2] != mask.shape:
            raise DataError(
                f"mask '{pair.mask}' is {mask.shape[1]} x {mask.shape[0]}, its image '{pair.image.name}' is "
                f"{image.shape[1]} x {image.shape[0]} pixels; both must have one size. "
                "Export the mask at the image's size (an EXIF rotation of the image may be why)."
            )
        ids = lookup[mask]
        _check_ids(source, pair.mask, mask, ids)
        height, width = target_size(mask.shape[0], mask.shape[1], image_size)
        kept = ids.astype(np.uint8)
        image = resize_image(image, height, width)
        digest = hashlib.sha256(image_bytes).digest() + hashlib.sha256(mask_bytes).digest()
        return image, kept if stored_masks else resize_mask(kept, height, width), digest

    pairs = source.pairs(split)
    with ThreadPoolExecutor() as pool:  # decoders release the GIL
        rows = list(pool.map(read, pairs))
    total = _table_hash(source)
    for pair, (_, _, digest) in zip(pairs, rows, strict=True):
        total.update(pair.image.name.encode() + digest)
    names = tuple(p.image.stem for p in pairs)
    return Decoded(names, tuple(r[0] for r in rows), tuple(r[1] for r in rows), total.hexdigest())


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None


def _id_lookup(source: Source) -> NDArray[np.int16]:
    """Stored id -> class id, 255 for ignore, -1 for an id that the class table does not know."""
    lookup = np.full(256, -1, np.int16)
    lookup[: len(source.classes)] = np.arange(len(source.classes))
    lookup[list(source.classes.ignore)] = IGNORE_INDEX
    for stored, target in source.config.label_map.items():
        known = target < len(source.classes) or target in source.classes.ignore
        lookup[stored] = (
            IGNORE_INDEX if target in source.classes.ignore or target == IGNORE_INDEX else target if known else -1
        )
    return lookup


def _check_ids(source: Source, path: Path, mask: NDArray[np.uint8], ids: NDArray[np.int16]) -> None:
    unknown = mask[ids < 0]
    if not unknown.size:
        return
    values, counts = np.unique(unknown, return_counts=True)
    found = ", ".join(f"{v} ({c:,} px)" for v, c in zip(values[:8], counts[:8], strict=True))
    more = f" and {len(values) - 8} more" if len(values) > 8 else ""
    looks = ""
    if set(np.unique(mask).tolist()) <= {0, 255}:
        looks = " It looks like a 0/255 mask: dataset.label_map={255: 1} with dataset.ignore=[254] makes 255 class 1."
    ignored = ", ".join(str(i) for i in source.classes.ignore)
    raise DataError(
        f"mask '{path}' holds label {found}{more}, but dataset '{source.name}' names 0..{len(source.classes) - 1} "
        f"and ignores {ignored}. Add a class, or map it: dataset.label_map={{{values[0]}: 255}}.{looks}"
    )
