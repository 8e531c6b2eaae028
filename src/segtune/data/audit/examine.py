"""What is to be known of one image and its mask, found in one reading of both files, whatever is wrong with them."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.data.reading.decoding import decode, open_image
from segtune.data.reading.images import read_image, resize_mask, stored_size, target_size
from segtune.data.source.files import read_bytes
from segtune.data.source.layout import Source
from segtune.errors import DataError

_KEPT = 64  # colours of a mask, the most frequent ones


@dataclass
class PairFacts:
    """Facts of one pair; what could not be read is None.

    Attributes:
        name: of the image within its split.
        image_fault, mask_fault: why a file cannot be read.
        size: (h, w) of the image as shown, after EXIF; `stored` before it.
        mask_size: (h, w).
        encoding: of the mask's file, as PNG or JPEG.
        values: stored id -> pixels; empty for a mask of colours.
        colors: RGB -> pixels, of a colour mask; or of a palette, by the index that uses it.
        num_colors: of a colour mask.
        blend: share of the borders that pass through a value between both sides, 0 in a mask that never was resized.
        counts: pixels of each class as training will read them, (C,); `small` at the chosen image size.
        digest: sha256 of the image's bytes.
        look: 256-bit perceptual hash (signs of the lowest 16 x 16 DCT terms), and that of the mirrored image.
    """

    name: str
    split: str
    image: Path
    mask: Path | None
    image_fault: str | None = None
    mask_fault: str | None = None
    size: tuple[int, int] | None = None
    stored: tuple[int, int] | None = None
    orientation: int = 1
    mask_size: tuple[int, int] | None = None
    encoding: str = ""
    values: dict[int, int] = field(default_factory=dict)
    colors: dict[tuple[int, int, int], int] = field(default_factory=dict)
    palette: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    num_colors: int = 0
    blend: float = 0.0
    counts: NDArray[np.int64] | None = None
    small: NDArray[np.int64] | None = None
    digest: bytes = b""
    look: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
    mask_error: str | None = None


def examine_all(
    source: Source,
    wanted: Sequence[tuple[str, str, Path, Path | None]],
    image_size: Sequence[int],
    progress: Callable[[int, int], None],
) -> list[PairFacts]:
    """Facts of every (split, name, image, mask), in order; files are read by as many threads as there are cores."""
    found = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        rows = pool.map(lambda w: examine(source, w[0], w[1], w[2], w[3], image_size), wanted)
        for index, facts in enumerate(rows):
            found.append(facts)
            progress(index + 1, len(wanted))
    return found


def examine(
    source: Source, split: str, name: str, image: Path, mask: Path | None, image_size: Sequence[int]
) -> PairFacts:
    """Facts of one pair."""
    facts = PairFacts(name, split, image, mask)
    try:
        _image(facts, upright=source.short(image) not in source.fixes.unrotated)
    except DataError as error:
        facts.image_fault = str(error)
    if mask is not None:
        try:
            data = read_bytes(mask)
            _mask(facts, data)
        except DataError as error:
            facts.mask_fault = str(error)
        else:
            _classes(facts, data, source, image_size)
    return facts


def _image(facts: PairFacts, upright: bool) -> None:
    data = read_bytes(facts.image)
    facts.digest = hashlib.sha256(data).digest()
    height, width, orientation = stored_size(data, str(facts.image))
    facts.orientation, facts.stored = orientation if upright else 1, (height, width)
    pixels = read_image(data, name=str(facts.image), upright=upright)
    facts.size = (pixels.shape[0], pixels.shape[1])
    facts.look = perceptual_hash(pixels)


def perceptual_hash(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Signs, around their median, of the 16 x 16 lowest terms of the DCT of the grey image at 64 x 64; 32 bytes each.

    Measured: two frames of different CamVid splits differ in 80 bits and more, an image and itself after JPEG at
    quality 30, halving, noise or a brightness of +20 % in 22 at most. The second hash is the mirrored image's.
    """
    grey = cv2.cvtColor(
        cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
    )
    terms = cv2.dct(grey.astype(np.float32))[:16, :16]
    mirrored = terms * np.where(np.arange(16) % 2, -1.0, 1.0)
    first, second = (np.packbits((t > np.median(t)).ravel()) for t in (terms, mirrored))
    return first, second


def _mask(facts: PairFacts, data: bytes) -> None:
    name = str(facts.mask)
    image = open_image(data, name)
    facts.encoding = str(image.format)
    palette = image.getpalette() if image.mode == "P" else None
    image = decode(image, name, upright=False)
    pixels = np.array(image)
    if pixels.ndim == 3 and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    facts.mask_size = (pixels.shape[0], pixels.shape[1])
    if pixels.ndim == 2:
        facts.blend = blend_of(pixels)
        values, counts = np.unique(pixels, return_counts=True)
        facts.values = {int(v): int(c) for v, c in zip(values[:1024], counts[:1024], strict=True)}
        if palette:
            rows = {v: tuple(palette[3 * v : 3 * v + 3]) for v in facts.values}
            facts.palette = {v: (c[0], c[1], c[2]) for v, c in rows.items() if len(c) == 3}
        return
    packed = pixels[..., :3].astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    facts.blend = blend_of(pixels[..., :3].sum(2, dtype=np.int64))
    values, counts = np.unique(packed, return_counts=True)
    facts.num_colors = len(values)
    top = np.argsort(-counts)[:_KEPT]
    facts.colors = {
        (int(values[i]) >> 16, int(values[i]) >> 8 & 255, int(values[i]) & 255): int(counts[i])
        for i in top
    }


def blend_of(values: NDArray[np.generic]) -> float:
    """Share of the borders between values that pass through one between both sides; 0.03 at most in CamVid's masks.

    A mask that was resized with interpolation has 0.25 and more.
    """
    grid = values.astype(np.int32)
    between, borders = 0, 0
    for a, b, c in ((grid[:, :-2], grid[:, 1:-1], grid[:, 2:]), (grid[:-2], grid[1:-1], grid[2:])):
        between += int((((a < b) & (b < c)) | ((a > b) & (b > c))).sum())
        borders += int((a != b).sum())
    return between / max(1, borders)


def _classes(facts: PairFacts, data: bytes, source: Source, image_size: Sequence[int]) -> None:
    try:
        ids = source.masks.read(
            data, str(facts.mask), source.fixes.formats.get(source.short(facts.image))
        )
    except DataError as error:
        facts.mask_error = str(error)
        return
    number = len(source.classes)
    facts.counts = np.bincount(ids.ravel(), minlength=256)[:number]
    height, width = target_size(ids.shape[0], ids.shape[1], image_size)
    facts.small = np.bincount(resize_mask(ids, height, width).ravel(), minlength=256)[:number]
