"""Options of `predict`: how to segment the inputs, and what to write."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segtune.config.defaults import MAX_PIXELS
from segtune.errors import ConfigError, nearest
from segtune.inference.choices import (
    AVERAGES,
    SMOOTHINGS,
    SPLITS,
    Average,
    Smoothing,
    Split,
)
from segtune.plugins.registry import find

if TYPE_CHECKING:
    from segtune.inference.tiling import Tiling


_LEAST_SAMPLE_MS = 0.001


@dataclass(frozen=True)
class Options:
    """How to segment the inputs, and what to write.

    Attributes:
        split: `concept` or `components`; see `find_regions`.
        min_area: components of fewer pixels are ignored.
        formats: writers: `masks`, `overlays`, `regions`, `coco`, `geojson`, `yolo`, `clarifai`, or
            those of plugins. regions.json is always written; `regions` adds polygons to it.
        format_options: writer -> its options, as {overlays: {opacity: 0.7}}.
        tile: side of the tiles; every image is then segmented in tiles without resizing it. With
            None, only images that are too large are tiled.
        overlap: fraction of a tile's side that it shares with the next tile.
        tta: a name in AVERAGES.
        sample_ms: of a video, take one frame per so many milliseconds; None takes every frame.
        smooth: for videos, a name in SMOOTHINGS.
        max_pixels: images whose header claims more pixels are refused.
        runtime: an engine: `auto`, `eager`, `bf16`, `onnx`, `openvino`, or one of a plugin.
        runtime_options: of the engine.

    Raises:
        ConfigError: an unknown name or option, or a number outside its range.
    """

    split: Split = "concept"
    min_area: int = 16
    formats: tuple[str, ...] = ("masks", "overlays", "regions")
    format_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tile: int | None = None
    overlap: float = 0.25
    tta: Average = "none"
    sample_ms: float | None = None
    smooth: Smoothing = "none"
    max_pixels: int = MAX_PIXELS
    runtime: str = "auto"
    runtime_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names and ranges."""
        _check_name("regions", self.split, SPLITS)
        _check_name("tta", self.tta, AVERAGES)
        _check_name("smooth", self.smooth, SMOOTHINGS)
        self._check_parts()
        for key, number in (("min_area", self.min_area), ("max_pixels", self.max_pixels)):
            if number < 1:
                raise ConfigError(f"{key}={number}: at least 1 is expected.")
        if self.sample_ms is not None and not _LEAST_SAMPLE_MS <= self.sample_ms < math.inf:
            raise ConfigError(
                f"sample_ms={self.sample_ms}: milliseconds, {_LEAST_SAMPLE_MS} or more, "
                "are expected."
            )
        if self.tiling and self.smooth != "none":
            raise ConfigError(
                f"smooth={self.smooth} needs whole frames; leave out tile={self.tile}."
            )

    def _check_parts(self) -> None:
        """Check the writers and the engine; only a part with options is imported for that."""
        from segtune.config.part_options import checked_options

        engine = find("engine", self.runtime, "runtime")
        if self.runtime_options:
            checked_options(engine, self.runtime_options, "runtime_options")
        for name in self.formats:
            find("writer", name, "formats")
        for name, options in self.format_options.items():
            if name not in self.formats:
                raise ConfigError(
                    f"format_options.{name}: formats names no such writer; "
                    f"{nearest(name, self.formats)}"
                )
            checked_options(find("writer", name), options, f"format_options.{name}")

    @property
    def tiling(self) -> "Tiling | None":
        """None where only images that are too large are tiled."""
        from segtune.inference.tiling import Tiling

        return None if self.tile is None else Tiling(self.tile, self.overlap)


def _check_name(key: str, name: str, allowed: Collection[str]) -> None:
    if name not in allowed:
        names = ", ".join(dict.fromkeys(allowed))
        raise ConfigError(f"{key}={name}: {nearest(name, allowed)} (allowed: {names})")
