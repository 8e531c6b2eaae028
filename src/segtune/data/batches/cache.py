"""The cache of decoded splits: checked and decoded once, then mapped into memory by all processes.

The folder `decoded/KEY/` holds a split at one image size: `images.bin` and `masks.bin`, one array
after the other, and `index.json`. KEY depends on the content of all files, so that changed data is
decoded again. Processes that map the same files share one copy in memory.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segtune.config.commands import command
from segtune.config.dataset_schema import CacheConfig
from segtune.data.batches.decoded import Array, Decoded, Packed, PairReader, Streamed
from segtune.data.batches.split_borders import MaskLook, SplitBorders
from segtune.data.reading.borders import Borders
from segtune.data.reading.images import read_image, resize_image, resize_mask, target_size
from segtune.data.reading.questions import NARROW, narrow_range, open_question, value_bits
from segtune.data.source.files import cache_dir, digests, read_bytes
from segtune.data.source.layout import Source
from segtune.data.source.pairs import Pair
from segtune.errors import DataError
from segtune.runtime.cache_store import CacheStore, StaleEntry
from segtune.runtime.log import Log, silent
from segtune.runtime.percent import percent
from segtune.runtime.processors import available_processors
from segtune.runtime.progress import ProgressReporter

_VERSION = 3  # raise it if the same files decode to other arrays
_INDEX, _COUNTS = "index.json", "counts.npy"
_IMAGES, _MASKS = "images.bin", "masks.bin"
_WINDOW = 64  # pairs that are decoded ahead of the pair that is written
_SILENT_SECONDS = 1.0  # before progress is reported


def load_split(
    source: Source,
    split: str,
    image_size: Sequence[int],
    stored_masks: bool = False,
    cache: CacheConfig | None = None,
    say: Log = silent,
) -> Decoded:
    """Load a split: the first process decodes and checks it, all others map the result.

    Args:
        image_size: see `target_size`.
        stored_masks: keep masks at their stored size, as validation needs them.
        say: receives the progress, and a line for each pair that is left out.

    Raises:
        DataError: more than `dataset.tolerance` of the pairs do not decode, have masks of another
            size than their image, or hold unknown ids; or the cache folder cannot be written.
    """
    fingerprint = source.fingerprint((split,))
    decoding = _Decoding(source, split, source.pairs(split), tuple(image_size), stored_masks)
    max_bytes = (cache or CacheConfig()).max_gb * 1e9
    decoded = CacheStore(cache_dir() / "decoded", max_bytes).open(
        decoding.key(fingerprint),
        build=lambda folder: _build(decoding, folder, max_bytes, say),
        read=lambda folder: _open(decoding, folder, fingerprint, max_bytes),
    )
    for name, reason in (decoded.left_out or {}).items():
        say(f"left out: {name}: {reason}")
    if decoded.note:
        say(f"! {decoded.note}")
    return decoded


def read_stored_masks(source: Source, split: str, names: Sequence[str]) -> list[Array]:
    """Read the masks of some pairs at their stored size, each (h, w) uint8 of class ids and 255.

    Raises:
        DataError: a mask is missing, or does not decode.
    """
    pairs = {pair.name: pair for pair in source.pairs(split)}
    return [_read_mask(source, pairs[name]) for name in names]


def duplicates_in_train(source: Source, split: str) -> tuple[str, ...] | None:
    """Images of a split that the train split also holds; None without a train split."""
    try:
        train = set(digests([p.image for p in source.pairs("train")]))
    except DataError:
        return None
    pairs = source.pairs(split)
    hashes = digests([p.image for p in pairs])
    return tuple(p.name for p, digest in zip(pairs, hashes, strict=True) if digest in train)


def _read_mask(source: Source, pair: Pair, look: MaskLook | None = None) -> Array:
    return source.masks.read(read_bytes(pair.mask), str(pair.mask), pair.form, look)


_Read = tuple[tuple[Array, Array], Borders]
"""An image, its mask, and how the borders of the mask run."""


@dataclass(frozen=True)
class _Decoding:
    """The pairs to decode, and the sizes of the arrays that they become."""

    source: Source
    split: str
    pairs: list[Pair]
    image_size: tuple[int, ...]
    stored_masks: bool

    def key(self, fingerprint: str) -> str:
        """Name of the folder: a hash of everything that the arrays depend on."""
        facts = [
            _VERSION,
            fingerprint,
            list(self.image_size),
            self.stored_masks,
            len(self.source.classes),
            self.source.config.tolerance,
            sorted(self.source.masks.thin),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]

    def read(self, pair: Pair, look: MaskLook | None = None) -> tuple[Array, Array]:
        """Decode and check image and mask.

        Args:
            look: receives the stored ids of the mask.

        Raises:
            DataError: one does not decode, or their sizes differ.
        """
        data, name, reading = read_bytes(pair.image), str(pair.image), self.source.reading
        question = open_question(data, name, reading)
        if question is not None:
            raise DataError(question.message)
        image = read_image(data, upright=pair.upright, name=name, reading=reading)
        mask = _read_mask(self.source, pair, look)
        if image.shape[:2] != mask.shape:
            raise DataError(
                f"mask '{pair.mask}' is {mask.shape[1]} x {mask.shape[0]}, its image "
                f"'{pair.image.name}' is {image.shape[1]} x {image.shape[0]} pixels; both must "
                "have one size. Export the mask at the image's size (an EXIF rotation of the image "
                "may be why)."
            )
        height, width = target_size(mask.shape[0], mask.shape[1], self.image_size)
        if not self.stored_masks:
            mask = resize_mask(mask, height, width)
        return resize_image(image, height, width), mask

    def try_read(self, pair: Pair) -> _Read | DataError:
        """Decode a pair and look at the borders of its mask, or return the error."""
        look = MaskLook()
        try:
            arrays = self.read(pair, look)
            look.refuse(self.source, str(pair.mask))
        except DataError as error:
            return error
        return arrays, look.borders

    def check_range(self, brightest: int) -> None:
        """Check that images of more than 8 bits are not all nearly black.

        Raises:
            DataError: they use a small part of the range of their type.
        """
        if brightest >= NARROW or not self.pairs or self.source.reading.value_range is not None:
            return
        path = self.pairs[0].image
        bits = value_bits(read_bytes(path), str(path))
        if bits > 8:
            black, white = narrow_range(brightest, bits)
            raise DataError(
                f"dataset '{self.source.name}': the images of split '{self.split}' have {bits} "
                f"bits, but use {brightest + 1} of 256 levels. Say which values are black and "
                f"white: 'dataset.value_range=[{black},{white}]'. "
                f"To see more: {command('check', dataset=self.source.config)}"
            )

    def check_tolerance(self, left_out: dict[str, str], last: DataError) -> None:
        """Check that no more pairs are left out than the dataset tolerates, and that one is left.

        Raises:
            DataError: too many; the last error itself if the dataset tolerates none.
        """
        total, tolerance = len(self.pairs), self.source.config.tolerance
        if len(left_out) <= int(total * tolerance) and len(left_out) < total:
            return
        if total * tolerance < 1:
            raise last
        raise DataError(
            f"dataset '{self.source.name}': more than {percent(tolerance)} of the {total} pairs of "
            f"split '{self.split}' cannot be read (dataset.tolerance). The first: "
            f"{next(iter(left_out.values()))} "
            f"To see all: {command('check', dataset=self.source.config)}"
        )


class _PixelWriter:
    """Writes images and masks to the cache folder, until they exceed its limit or the disk."""

    def __init__(self, folder: Path, max_bytes: float) -> None:
        self._paths = folder / _IMAGES, folder / _MASKS
        self._files: list[BinaryIO] = [path.open("wb") for path in self._paths]
        self._max_bytes = max_bytes
        self.size, self.fits = 0, True

    def add(self, arrays: tuple[Array, Array]) -> None:
        """Write an image and its mask; `fits` becomes false if there is no room for them."""
        self.size += sum(array.nbytes for array in arrays)
        if not self.fits:
            return
        if self.size > self._max_bytes or not _write(self._files, arrays):
            self.discard()

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def discard(self) -> None:
        """Close and remove the files."""
        self.fits = False
        self.close()
        for path in self._paths:
            path.unlink(missing_ok=True)


def _write(files: Sequence[BinaryIO], arrays: Sequence[Array]) -> bool:
    """Write one array to each file; whether the disk had room."""
    try:
        for file, array in zip(files, arrays, strict=True):
            file.write(np.ascontiguousarray(array).data)
    except OSError:
        return False
    return True


def _build(decoding: _Decoding, folder: Path, max_bytes: float, say: Log) -> None:
    """Decode every pair, write the pixels if they fit, then the index."""
    writer = _PixelWriter(folder, max_bytes)
    try:
        index, counts = _decode_all(decoding, writer, say)
        writer.close()
    except BaseException:
        writer.discard()
        raise
    if not writer.fits:
        say(
            f"{decoding.source.name} {decoding.split} does not fit into the cache "
            f"({max_bytes / 1e9:.3g} GB, cache.max_gb, or the disk of '{folder.parent}'): its "
            "images are decoded whenever they are read"
        )
    num_classes = len(decoding.source.classes)
    np.save(folder / _COUNTS, np.array(counts, np.int64).reshape(len(counts), num_classes))
    index |= {"bytes": writer.size, "max_bytes": max_bytes}
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def _decode_all(
    decoding: _Decoding, writer: _PixelWriter, say: Log
) -> tuple[dict[str, Any], list[list[int]]]:
    """Decode and write all pairs; return the index, and the pixels of each class in each mask."""
    total, num_classes = len(decoding.pairs), len(decoding.source.classes)
    index: dict[str, Any] = {"kept": [], "images": [], "masks": [], "left_out": {}}
    counts: list[list[int]] = []
    brightest, borders = 0, SplitBorders()
    started = time.monotonic()
    with ProgressReporter(say) as report:
        for number, result in enumerate(_decoded_ahead(decoding)):
            if time.monotonic() - started > _SILENT_SECONDS:
                label = f"images of {decoding.source.name} {decoding.split} decoded"
                report(label, number + 1, total)
            if isinstance(result, DataError):
                index["left_out"][decoding.pairs[number].name] = str(result)
                decoding.check_tolerance(index["left_out"], result)
                continue
            (image, mask), borders_of_mask = result
            borders.add(borders_of_mask)
            brightest = max(brightest, int(image.max()))
            index["kept"].append(number)
            index["images"].append(list(image.shape))
            index["masks"].append(list(mask.shape))
            counts.append(np.bincount(mask.ravel(), minlength=256)[:num_classes].tolist())
            writer.add((image, mask))
    decoding.check_range(brightest)
    index["note"] = borders.note(decoding.source, decoding.split)
    return index, counts


def _decoded_ahead(decoding: _Decoding) -> Iterator[_Read | DataError]:
    """Decoded pairs in order, some ahead of time: decoders release the interpreter's lock."""
    with ThreadPoolExecutor(max(2, available_processors())) as pool:
        pending: list[Future[_Read | DataError]] = []
        try:
            for pair in decoding.pairs:
                pending.append(pool.submit(decoding.try_read, pair))
                if len(pending) >= _WINDOW:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()


def _open(decoding: _Decoding, folder: Path, fingerprint: str, max_bytes: float) -> Decoded:
    """Map a decoded split.

    Raises:
        StaleEntry: it did not fit into the cache when it was decoded, and may fit now.
    """
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    pairs = [decoding.pairs[i] for i in index["kept"]]
    image_shapes = [tuple(shape) for shape in index["images"]]
    mask_shapes = [tuple(shape) for shape in index["masks"]]
    images: Sequence[Array]
    masks: Sequence[Array]
    if (folder / _MASKS).is_file():
        images = Packed(folder / _IMAGES, image_shapes)
        masks = Packed(folder / _MASKS, mask_shapes)
    elif index["bytes"] <= max_bytes and index["max_bytes"] < max_bytes:
        raise StaleEntry(f"'{folder}' fits into {max_bytes} bytes")
    else:
        reader = PairReader(_IndexedPairs(decoding, pairs))
        images, masks = Streamed(reader, 0, image_shapes), Streamed(reader, 1, mask_shapes)
    names, counts = tuple(p.name for p in pairs), np.load(folder / _COUNTS)
    left_out, note = index["left_out"], index["note"]
    return Decoded(names, images, masks, fingerprint, counts, left_out, note)


@dataclass(frozen=True)
class _IndexedPairs:
    """Decodes a pair by its index; unlike a closure it can go to another process."""

    decoding: _Decoding
    pairs: Sequence[Pair]

    def __call__(self, index: int) -> tuple[Array, Array]:
        return self.decoding.read(self.pairs[index])
