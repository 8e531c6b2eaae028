"""Look at all masks once: which values, colours and opacities they hold."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.data.reading.mask_values import MaskValues, mask_values
from segtune.errors import DataError
from segtune.runtime.log import Log
from segtune.runtime.processors import available_processors
from segtune.runtime.progress import ProgressReporter

Color = tuple[int, int, int]

_MOST_VALUES = 300  # of one mask that are kept, the most frequent
DARK, _BRIGHT = 32, 223  # JPEG changes black and white by less
_FEW_LEVELS = 4  # between dark and bright, of a mask that is not blurred
_BORDER = np.ones((7, 7), np.uint8)  # how far blurred pixels lie from dark and bright ones
_STRAY_SHARE = 0.1  # share of the pixels in between that may lie elsewhere


@dataclass
class MaskFacts:
    """What one mask holds.

    Attributes:
        values: stored value -> pixels; empty for colours.
        colors: RGB -> pixels; of a palette file too.
        is_hidden: the object is in the alpha channel alone.
        is_soft: dark and bright, with values in between: a mask of two values that was blurred.
        is_lossy: stored as JPEG.
        fault: why it cannot be read.
    """

    path: str
    values: dict[int, int] = field(default_factory=dict)
    colors: dict[Color, int] = field(default_factory=dict)
    is_hidden: bool = False
    is_soft: bool = False
    is_lossy: bool = False
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
    opacity = mask.opacity
    is_even = bool((mask.pixels == mask.pixels[:1, :1]).all())
    facts.is_hidden = is_even and opacity is not None and bool((opacity != opacity[0, 0]).any())
    if mask.pixels.ndim == 3:
        facts.colors = _colors(mask)
        levels = mask.pixels.max(2)
    else:
        values, counts = np.unique(mask.pixels, return_counts=True)
        order = np.argsort(-counts)[:_MOST_VALUES]
        facts.values = {int(values[i]): int(counts[i]) for i in sorted(order)}
        levels = mask.pixels
        if mask.palette is not None:
            facts.colors = _palette_colors(mask.palette, facts.values)
            return facts
    if levels.dtype == np.uint8 and len(facts.values) + len(facts.colors) > 2:
        facts.is_soft = _is_blurred(levels, facts.is_lossy)
    return facts


def _is_blurred(levels: NDArray[np.uint8], is_lossy: bool) -> bool:
    """Whether a mask (H, W) is dark and bright, with other levels just where both meet.

    A class of its own lies also away from such borders.
    """
    dark, bright = levels <= DARK, levels >= _BRIGHT
    between = ~dark & ~bright
    if not (dark.any() and bright.any()):
        return False
    if len(np.unique(levels[between])) <= _FEW_LEVELS:
        return is_lossy and not between.any()
    near_dark = np.asarray(cv2.dilate(dark.astype(np.uint8), _BORDER), bool)
    near_bright = np.asarray(cv2.dilate(bright.astype(np.uint8), _BORDER), bool)
    return bool((between & ~(near_dark & near_bright)).sum() <= _STRAY_SHARE * between.sum())


def _colors(mask: MaskValues) -> dict[Color, int]:
    packed = mask.pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    values, counts = np.unique(packed, return_counts=True)
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
