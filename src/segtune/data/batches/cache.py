"""A split decoded once, checked while it is read, and shared by every process of the machine as mapped memory.

`decoded/KEY/` in the cache folder holds a split at one image size: `images.bin` and `masks.bin`, one array after the
other, and `index.json`, which is written last. The key rests on the content of all files, so that changed data is
decoded anew; processes that map the same files share one copy in memory.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from segtune.config.commands import command
from segtune.config.dataset_schema import CacheConfig
from segtune.data.reading.images import read_image, resize_image, resize_mask, target_size
from segtune.data.source.files import cache_dir, digests, read_bytes
from segtune.data.source.layout import Pair, Source
from segtune.errors import DataError
from segtune.runtime.atomic import atomic_file
from segtune.runtime.log import Log
from segtune.runtime.progress import ProgressReporter

_VERSION = 2  # raise it whenever the same files decode to other arrays
_INDEX = "index.json"
_WINDOW = 64  # pairs that are decoded ahead of the one that is written
Array = NDArray[np.uint8]


class Packed(Sequence[Array]):
    """Arrays of several shapes, one after the other in a file that is mapped into memory; writes stay private."""

    def __init__(self, path: Path, shapes: Sequence[tuple[int, ...]]) -> None:
        self.shapes = [tuple(s) for s in shapes]
        ends = np.cumsum([int(np.prod(s)) for s in self.shapes])
        self._starts = [0, *ends.tolist()]
        self._path, self._bytes = path, np.memmap(path, np.uint8, "c")

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]  # no slices are asked for
        shape = self.shapes[index]
        index %= len(self.shapes)
        return np.asarray(self._bytes[self._starts[index] : self._starts[index + 1]]).reshape(shape)

    def __reduce__(self) -> tuple[type["Packed"], tuple[Path, list[tuple[int, ...]]]]:
        """Another process maps the file itself."""
        return Packed, (self._path, self.shapes)


@dataclass(frozen=True)
class Streamed(Sequence[Array]):
    """Arrays that are decoded whenever they are read: for a split that does not fit into the cache."""

    read: Callable[[int], Array]
    shapes: Sequence[tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]  # no slices are asked for
        return self.read(index)


@dataclass(frozen=True)
class Decoded:
    """A split, decoded.

    Attributes:
        images: each (h, w, 3) uint8 RGB at the run's image size.
        masks: each (h, w) uint8 of class ids and 255 for ignore; at the image's size, or as stored.
        fingerprint: sha256 over names, image bytes, mask bytes and class table.
        left_out: name -> why, of files that could not be read, within the dataset's tolerance.
    """

    names: tuple[str, ...]
    images: Sequence[Array]
    masks: Sequence[Array]
    fingerprint: str
    counts: NDArray[np.int64] | None = None
    left_out: dict[str, str] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def pixel_counts(self, num_classes: int) -> NDArray[np.int64]:
        """Pixels of each class in each mask, (N, num_classes)."""
        if self.counts is not None and self.counts.shape[1] == num_classes:
            return self.counts
        return np.array(
            [np.bincount(m.ravel(), minlength=256)[:num_classes] for m in self.masks], np.int64
        )

    def class_shares(self, num_classes: int) -> NDArray[np.float64]:
        """Share of each class among the pixels that count, (num_classes,)."""
        counts = self.pixel_counts(num_classes).sum(0)
        return np.asarray(counts / max(1, counts.sum()), np.float64)


def shapes_of(arrays: Sequence[Array]) -> Sequence[tuple[int, ...]]:
    """The shape of each array, without reading any."""
    return arrays.shapes if isinstance(arrays, Packed | Streamed) else [a.shape for a in arrays]


def spread_evenly(number: int, most: int) -> list[int]:
    """Indices of all of so many, or of as many as allowed, spread over them.

    >>> spread_evenly(10, 4)
    [0, 2, 5, 7]
    """
    count = min(number, most)
    return [i * number // count for i in range(count)]


def read_stored_masks(source: Source, split: str, names: Sequence[str]) -> list[Array]:
    """Masks of some pairs as they are stored, each (h, w) uint8 of class ids and 255.

    Raises:
        DataError: one that is not there any more, or does not decode.
    """
    pairs = {pair.name: pair for pair in source.pairs(split)}
    return [_read_mask(source, pairs[name]) for name in names]


def _read_mask(source: Source, pair: Pair) -> Array:
    return source.masks.read(read_bytes(pair.mask), str(pair.mask), pair.form)


def load_split(
    source: Source,
    split: str,
    image_size: Sequence[int],
    stored_masks: bool = False,
    cache: CacheConfig | None = None,
    say: Log = lambda _: None,
) -> Decoded:
    """A split as arrays: decoded and checked by the first process that asks, mapped by all others.

    Args:
        stored_masks: keep masks as stored (what validation compares with), not at the image's size.
        say: is told what takes time, and what was left out.

    Raises:
        DataError: more than `dataset.tolerance` of the pairs do not decode, have masks of another size than their
            image, or hold unknown ids.
    """
    pairs = source.pairs(split)
    fingerprint = source.fingerprint((split,))
    facts = [
        _VERSION,
        fingerprint,
        list(image_size),
        stored_masks,
        len(source.classes),
        source.config.tolerance,
    ]
    folder = _root() / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    work = _Work(source, split, pairs, tuple(image_size), stored_masks)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"the cache folder '{folder}' cannot be written: {error}. Set SEGTUNE_CACHE."
        ) from None
    with FileLock(f"{folder}.lock"):
        if not (folder / _INDEX).is_file():
            _build(work, folder, (cache or CacheConfig()).max_gb * 1e9, say)
        (folder / _INDEX).touch()
        decoded = _opened(work, folder, fingerprint)
    for name, reason in (decoded.left_out or {}).items():
        say(f"left out: {name}: {reason}")
    return decoded


@dataclass(frozen=True)
class _Work:
    """What is to be decoded, and how."""

    source: Source
    split: str
    pairs: list[Pair]
    image_size: tuple[int, ...]
    stored_masks: bool

    def read(self, pair: Pair) -> tuple[Array, Array]:
        """Image and mask, checked."""
        image = read_image(read_bytes(pair.image), upright=pair.upright, name=str(pair.image))
        mask = _read_mask(self.source, pair)
        if image.shape[:2] != mask.shape:
            raise DataError(
                f"mask '{pair.mask}' is {mask.shape[1]} x {mask.shape[0]}, its image '{pair.image.name}' is "
                f"{image.shape[1]} x {image.shape[0]} pixels; both must have one size. "
                "Export the mask at the image's size (an EXIF rotation of the image may be why)."
            )
        height, width = target_size(mask.shape[0], mask.shape[1], self.image_size)
        return resize_image(image, height, width), mask if self.stored_masks else resize_mask(
            mask, height, width
        )

    def part(self, pairs: Sequence[Pair], place: int, index: int) -> Array:
        """The image (0) or the mask (1) of one of the pairs."""
        return self.read(pairs[index])[place]

    def try_read(self, pair: Pair) -> tuple[Array, Array] | DataError:
        """The same, with the error as a value."""
        try:
            return self.read(pair)
        except DataError as error:
            return error


def _build(work: _Work, folder: Path, max_bytes: float, say: Log) -> None:
    """Decodes every pair, and keeps the pixels where they fit."""
    kept: list[int] = []
    shapes: tuple[list[list[int]], list[list[int]]] = ([], [])
    counts: list[list[int]] = []
    left_out: dict[str, str] = {}
    num_classes, total = len(work.source.classes), len(work.pairs)
    allowed = int(total * work.source.config.tolerance)
    started, size = time.monotonic(), 0
    writers: list[BinaryIO] | None = [(folder / n).open("wb") for n in ("images.bin", "masks.bin")]
    try:
        with ProgressReporter(say) as pace:
            for index, found in enumerate(_ahead(work)):
                if time.monotonic() - started > 1.0:
                    pace(f"images of {work.source.name} {work.split} decoded", index + 1, total)
                if isinstance(found, DataError):
                    left_out[work.pairs[index].name] = str(found)
                    if len(left_out) > allowed:
                        raise _too_many(work, left_out, found)
                    continue
                kept.append(index)
                for place, array in enumerate(found):
                    shapes[place].append(list(array.shape))
                counts.append(np.bincount(found[1].ravel(), minlength=256)[:num_classes].tolist())
                size += found[0].nbytes + found[1].nbytes
                if writers is not None and not _write(writers, found, size <= max_bytes):
                    _give_up(writers, folder, work, max_bytes, say)
                    writers = None
        if not kept:
            raise _too_many(work, left_out, DataError(next(iter(left_out.values()))))
    except BaseException:
        if writers is not None:
            _give_up(writers, folder, work, None, say)
        raise
    if writers is not None:
        for writer in writers:
            writer.close()
        _make_room(folder, size, max_bytes)
    index_data = {
        "kept": kept,
        "images": shapes[0],
        "masks": shapes[1],
        "left_out": left_out,
        "bytes": size,
    }
    np.save(folder / "counts.npy", np.array(counts, np.int64).reshape(len(kept), num_classes))
    with atomic_file(folder / _INDEX) as unfinished:
        unfinished.write_text(json.dumps(index_data), encoding="utf-8")


def _ahead(work: _Work) -> Iterator[tuple[Array, Array] | DataError]:
    """Pairs in order, some decoded ahead of time: decoders release the interpreter's lock."""
    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        waiting: list[Future[tuple[Array, Array] | DataError]] = []
        try:
            for pair in work.pairs:
                waiting.append(pool.submit(work.try_read, pair))
                if len(waiting) >= _WINDOW:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def _write(writers: Sequence[BinaryIO], arrays: Sequence[Array], fits: bool) -> bool:
    if not fits:
        return False
    try:
        for writer, array in zip(writers, arrays, strict=True):
            writer.write(np.ascontiguousarray(array).data)
    except OSError:  # the disk is full
        return False
    return True


def _give_up(
    writers: Sequence[BinaryIO], folder: Path, work: _Work, max_bytes: float | None, say: Log
) -> None:
    """Removes what was written."""
    for writer in writers:
        name = writer.name
        writer.close()
        Path(name).unlink(missing_ok=True)
    if max_bytes is not None:
        say(
            f"{work.source.name} {work.split} does not fit into the cache ({max_bytes / 1e9:.3g} GB, cache.max_gb, or "
            f"the disk of '{folder}'): its images are decoded whenever they are read"
        )


def _too_many(work: _Work, left_out: dict[str, str], last: DataError) -> DataError:
    if len(work.pairs) * work.source.config.tolerance < 1:
        return last
    return DataError(
        f"dataset '{work.source.name}': more than {work.source.config.tolerance:.0%} of the {len(work.pairs)} pairs of "
        f"split '{work.split}' cannot be read (dataset.tolerance). The first: {next(iter(left_out.values()))} "
        f"To see all: {command('check', dataset=work.source.config)}"
    )


def _opened(work: _Work, folder: Path, fingerprint: str) -> Decoded:
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    pairs = [work.pairs[i] for i in index["kept"]]
    images, masks = ([tuple(s) for s in index[k]] for k in ("images", "masks"))
    names, counts = tuple(p.name for p in pairs), np.load(folder / "counts.npy")
    if (folder / "masks.bin").is_file():
        stored = Packed(folder / "images.bin", images), Packed(folder / "masks.bin", masks)
        return Decoded(names, *stored, fingerprint, counts, index["left_out"])
    read = [
        Streamed(partial(work.part, pairs, place), shapes)
        for place, shapes in enumerate((images, masks))
    ]
    return Decoded(names, read[0], read[1], fingerprint, counts, index["left_out"])


def _root() -> Path:
    return cache_dir() / "decoded"


def _make_room(newest: Path, size: int, max_bytes: float) -> None:
    """Removes the splits that were used longest ago, until the newest fits beside the others."""
    others = [p.parent for p in _root().glob(f"*/{_INDEX}") if p.parent != newest]
    used = sorted(
        (p, (p / _INDEX).stat().st_mtime, sum(f.stat().st_size for f in p.iterdir()))
        for p in others
    )
    total = size + sum(u[2] for u in used)
    for folder, _, its_size in sorted(used, key=lambda u: u[1]):
        if total <= max_bytes:
            return
        try:
            with FileLock(f"{folder}.lock", timeout=0):
                shutil.rmtree(
                    folder, ignore_errors=True
                )  # who has it mapped keeps it until the end
        except Timeout:  # another process is about to map it
            continue
        total -= its_size


def duplicates_in_train(source: Source, split: str) -> tuple[str, ...] | None:
    """Images of a split whose bytes lie in the train split too; None where there is no train split to look at."""
    try:
        train = set(digests([p.image for p in source.pairs("train")]))
    except DataError:
        return None
    pairs = source.pairs(split)
    return tuple(
        p.name
        for p, digest in zip(pairs, digests([p.image for p in pairs]), strict=True)
        if digest in train
    )


def batches_of_one_size(
    split: Decoded, batch_size: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """Indices in batches whose images share a size and whose masks share one; of several ranks, the share of one."""
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    images, masks = shapes_of(split.images), shapes_of(split.masks)
    for index in range(rank, len(split), world_size):
        groups.setdefault((tuple(images[index]), tuple(masks[index])), []).append(index)
    return [g[i : i + batch_size] for g in groups.values() for i in range(0, len(g), batch_size)]
