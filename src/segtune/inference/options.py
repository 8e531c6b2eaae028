"""Options of `predict`: how to segment the inputs, and what to write."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segtune.config.defaults import MAX_PIXELS
from segtune.errors import ConfigError, nearest
from segtune.inference.choices import (
    AVERAGES,
    ENGINES,
    OUTPUT_FORMATS,
    SMOOTHINGS,
    SPLITS,
    Average,
    Engine,
    Output,
    Smoothing,
    Split,
)
from segtune.plugins.registry import parts

if TYPE_CHECKING:
    from segtune.inference.tiling import Tiling


@dataclass(frozen=True)
class Options:
    """How to segment the inputs, and what to write.

    Attributes:
        split: `concept` or `components`; see `find_regions`.
        min_area: components of fewer pixels are ignored.
        formats: names in OUTPUT_FORMATS, or writers of plugins. regions.json is always written;
            `regions` adds polygons to it.
        tile: side of the tiles; every image is then segmented in tiles without resizing it. With
            None, only images that are too large are tiled.
        overlap: fraction of a tile's side that it shares with the next tile.
        tta: a name in AVERAGES.
        sample_ms: of a video, take one frame per so many milliseconds; None takes every frame.
        smooth: for videos, a name in SMOOTHINGS.
        max_pixels: images whose header claims more pixels are refused.
        runtime: a name in ENGINES, or an engine of a plugin.

    Raises:
        ConfigError: an unknown name, or a number outside its range.
    """

    split: Split = "concept"
    min_area: int = 16
    formats: tuple[Output, ...] = ("masks", "overlays", "regions")
    tile: int | None = None
    overlap: float = 0.25
    tta: Average = "none"
    sample_ms: float | None = None
    smooth: Smoothing = "none"
    max_pixels: int = MAX_PIXELS
    runtime: Engine = "auto"

    def __post_init__(self) -> None:
        """Check names and ranges."""
        _check_name("regions", self.split, SPLITS)
        _check_name("tta", self.tta, AVERAGES)
        _check_name("smooth", self.smooth, SMOOTHINGS)
        _check_name("runtime", self.runtime, (*ENGINES, *parts("engine")))
        for name in self.formats:
            _check_name("formats", name, (*OUTPUT_FORMATS, *parts("writer")))
        for key, number in (("min_area", self.min_area), ("max_pixels", self.max_pixels)):
            if number < 1:
                raise ConfigError(f"{key}={number}: at least 1 is expected.")
        if self.sample_ms is not None and self.sample_ms <= 0:
            raise ConfigError(f"sample_ms={self.sample_ms}: milliseconds above 0 are expected.")
        if self.tiling and self.smooth != "none":
            raise ConfigError(
                f"smooth={self.smooth} needs whole frames; leave out tile={self.tile}."
            )

    @property
    def tiling(self) -> "Tiling | None":
        """None where only images that are too large are tiled."""
        from segtune.inference.tiling import Tiling

        return None if self.tile is None else Tiling(self.tile, self.overlap)


def _check_name(key: str, name: str, allowed: Collection[str]) -> None:
    if name not in allowed:
        names = ", ".join(dict.fromkeys(allowed))
        raise ConfigError(f"{key}={name}: {nearest(name, allowed)} (allowed: {names})")
