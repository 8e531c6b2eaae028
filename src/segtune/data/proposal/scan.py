"""Look at all masks once: which values, colours and opacities they hold."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.data.reading.borders import Borders, borders_of, packed
from segtune.data.reading.mask_values import mask_values
from segtune.errors import DataError
from segtune.runtime.log import Log
from segtune.runtime.processors import available_processors
from segtune.runtime.progress import ProgressReporter

Color = tuple[int, int, int]

_MOST_VALUES = 300  # of one mask that are kept, the most frequent
DARK, BRIGHT = 32, 223  # JPEG changes black and white by less, but for borders
_BLOCK = np.ones((17, 17), np.uint8)  # how far a pixel of JPEG lies from others of its block
_OPAQUE = 128
_STRAY_SHARE = 0.1  # share of the pixels in between that may lie elsewhere
_MOST_NOISE = 6  # levels by which JPEG changes areas without a border


@dataclass
class MaskFacts:
    """What one mask holds.

    Attributes:
        values: stored value -> pixels; empty for colours.
        colors: RGB -> pixels; of a palette file too.
        is_hidden: the object is in the alpha channel alone.
        is_blank: one colour of one opacity, in a file with an alpha channel.
        has_opacity: the opacity differs between pixels.
        is_lossy: stored as JPEG.
        is_soft: stored as JPEG, and of one dark and one bright value.
        bright_share: share of the pixels that are opaque, or in the brighter half of its values.
        borders: how the borders of its values run, of a mask that is no JPEG.
        fault: why it cannot be read.
    """

    path: str
    values: dict[int, int] = field(default_factory=dict)
    colors: dict[Color, int] = field(default_factory=dict)
    is_hidden: bool = False
    is_blank: bool = False
    has_opacity: bool = False
    is_lossy: bool = False
    is_soft: bool = False
    bright_share: float = 0.0
    borders: Borders | None = None
    fault: str = ""

    @property
    def is_colored(self) -> bool:
        """Whether its channels differ."""
        return bool(self.colors) and not self.values


def scan(root: Path, masks: Sequence[str], say: Log) -> list[MaskFacts]:
    """The facts of every mask."""
    facts = []
    with ProgressReporter(say) as progress, ThreadPoolExecutor(available_processors()) as pool:
        for index, fact in enumerate(pool.map(lambda path: _facts(root, path), masks)):
            facts.append(fact)
            if (index + 1) % 50 == 0:
                progress("masks looked at", index + 1, len(masks))
    return facts


def _facts(root: Path, path: str) -> MaskFacts:
    facts = MaskFacts(path)
    try:
        mask = mask_values(root / path, path)
    except DataError as error:
        facts.fault = str(error)
        return facts
    facts.is_lossy = mask.encoding in ("JPEG", "MPO")
    numbers = packed(mask.pixels)
    _note_opacity(facts, mask.opacity, numbers)
    if not facts.is_lossy:
        facts.borders = borders_of(mask.pixels)
    levels = mask.pixels if mask.pixels.ndim == 2 else mask.pixels.max(2)
    if not facts.is_hidden:
        facts.bright_share = float((levels > levels.max() / 2).mean())
    if mask.pixels.ndim == 3:
        facts.colors = _colors(numbers)
    else:
        values, counts = np.unique(mask.pixels, return_counts=True)
        order = np.argsort(-counts)[:_MOST_VALUES]
        facts.values = {int(values[i]): int(counts[i]) for i in sorted(order)}
        if mask.palette is not None:
            facts.colors = _palette_colors(mask.palette, facts.values)
            return facts
    if facts.is_lossy and levels.dtype == np.uint8:
        facts.is_soft = _is_of_two(levels)
    return facts


def _note_opacity(
    facts: MaskFacts, opacity: NDArray[np.uint8] | None, numbers: NDArray[np.generic]
) -> None:
    """Note whether the alpha channel holds the object: beside one colour, or beside a photo."""
    if opacity is None:
        return
    is_even = bool((numbers == numbers[0, 0]).all())
    facts.has_opacity = bool((opacity != opacity[0, 0]).any())
    is_photo = not is_even and len(np.unique(numbers)) > _MOST_VALUES
    facts.is_hidden = facts.has_opacity and (is_even or is_photo)
    facts.is_blank = is_even and not facts.has_opacity
    if facts.is_hidden:
        facts.bright_share = float((opacity >= _OPAQUE).mean())


def _is_of_two(levels: NDArray[np.uint8]) -> bool:
    """Whether a mask stored as JPEG, (H, W), is one dark and one bright value.

    JPEG changes the levels of whole blocks that hold a border. A third value lies also elsewhere.
    """
    dark, bright = levels <= DARK, levels >= BRIGHT
    between = ~dark & ~bright
    if not (dark.any() and bright.any()):
        return False
    near_dark = np.asarray(cv2.dilate(dark.astype(np.uint8), _BLOCK), bool)
    near_bright = np.asarray(cv2.dilate(bright.astype(np.uint8), _BLOCK), bool)
    if (between & ~(near_dark & near_bright)).sum() > _STRAY_SHARE * between.sum():
        return False
    for far in (levels[dark & ~near_bright], levels[bright & ~near_dark]):
        if far.size and np.ptp(np.percentile(far, [1, 99])) > _MOST_NOISE:
            return False
    return True


def _colors(numbers: NDArray[np.generic]) -> dict[Color, int]:
    values, counts = np.unique(numbers, return_counts=True)
    colors = {}
    for index in np.argsort(-counts)[:_MOST_VALUES]:
        value = int(values[index])
        colors[value >> 16, value >> 8 & 255, value & 255] = int(counts[index])
    return colors


def _palette_colors(palette: Sequence[int], values: dict[int, int]) -> dict[Color, int]:
    colors: Counter[Color] = Counter()
    for value, count in values.items():
        color = palette[3 * value : 3 * value + 3]
        if len(color) == 3:
            colors[color[0], color[1], color[2]] += count
    return dict(colors)
