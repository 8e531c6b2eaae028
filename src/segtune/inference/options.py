"""How `predict` looks at its inputs, and what it writes."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segtune.config.defaults import MAX_PIXELS
from segtune.errors import ConfigError, nearest
from segtune.inference.choices import (
    AVERAGES,
    ENGINES,
    FORMATS,
    SMOOTHINGS,
    SPLITS,
    Average,
    Engine,
    Output,
    Smoothing,
    Split,
)

if TYPE_CHECKING:
    from segtune.inference.tiling import Tiling


@dataclass(frozen=True)
class Options:
    """How inputs are looked at, and what is written.

    Attributes:
        split: `concept` or `components`; see `find_regions`.
        min_area: components of fewer pixels are left out.
        formats: names in FORMATS; regions.json is always written, with polygons where `regions` is among them.
        tile: side of the tiles in which each image is looked at, at its own size; None tiles only what is too large.
        overlap: share of a tile's side that it has in common with the next.
        tta: a name in AVERAGES.
        sample_ms: of a video, one frame every so many milliseconds; None takes every frame.
        smooth: a name in SMOOTHINGS, for videos.
        max_pixels: images whose header claims more are refused.
        runtime: a name in ENGINES: what computes.

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
        """Checks names and ranges."""
        closed: list[tuple[str, str, Collection[str]]] = [
            ("regions", self.split, SPLITS), ("tta", self.tta, AVERAGES), ("smooth", self.smooth, SMOOTHINGS),
            ("runtime", self.runtime, ENGINES),
        ]  # fmt: skip
        for key, value, allowed in (*closed, *(("formats", f, FORMATS) for f in self.formats)):
            if value not in allowed:
                raise ConfigError(
                    f"{key}={value}: {nearest(value, allowed)} (allowed: {', '.join(allowed)})"
                )
        for key, number, least in (
            ("min_area", self.min_area, 1),
            ("max_pixels", self.max_pixels, 1),
        ):
            if number < least:
                raise ConfigError(f"{key}={number}: at least {least} is expected.")
        if self.sample_ms is not None and self.sample_ms <= 0:
            raise ConfigError(f"sample_ms={self.sample_ms}: milliseconds above 0 are expected.")
        if self.tiling and self.smooth != "none":
            raise ConfigError(
                f"smooth={self.smooth} looks at whole frames; leave out tile={self.tile}."
            )

    @property
    def tiling(self) -> "Tiling | None":
        """None where only images that are too large are tiled."""
        from segtune.inference.tiling import Tiling

        return None if self.tile is None else Tiling(self.tile, self.overlap)
