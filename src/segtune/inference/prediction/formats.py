"""The formats of `predict`: each is a part of the group `writer`, ours and those of plugins.

A class like these overrides what its format needs. A function of an image and its regions is
enough for a format with a text file for each image: `TextFormat` calls it.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from segtune.classes import ClassTable
from segtune.config.part_options import checked_options
from segtune.inference.prediction.files import (
    OutputFiles,
    frames_of,
    text_file,
    write_jpeg,
    write_json,
    write_png,
    write_text,
)
from segtune.inference.prediction.rasters import LargeImage, geojson_of, write_mask
from segtune.inference.regions.overlay import draw_overlay
from segtune.inference.regions.regions import Region
from segtune.inference.regions.writers import (
    WrittenImage,
    clarifai_frame,
    clarifai_image,
    clarifai_video,
    crs_of,
    to_coco,
    to_geojson,
    to_yolo,
)
from segtune.inference.segmenter import Segmentation
from segtune.plugins.registry import Part, find
from segtune.runtime.atomic import atomic_file

Picture = NDArray[np.uint8]
Rows = Callable[[], Iterable[Mapping[str, Any]]]
"""Reads the rows of `regions.json` from disk: together they may not fit into memory."""


class Format:
    """Writes nothing; a format overrides what it needs.

    Attributes:
        has_polygons: the regions in `regions.json` get their polygons.
        has_video: `picture` draws the frames of a video.
        takes_large: `large` writes images that do not fit into memory.
    """

    has_polygons = False
    has_video = False
    takes_large = False

    def image(
        self,
        files: OutputFiles,
        image: WrittenImage,
        segmentation: Segmentation,
        regions: Sequence[Region],
    ) -> None:
        """Write an image, or a frame of a video."""

    def large(self, files: OutputFiles, image: WrittenImage, large: LargeImage) -> None:
        """Write an image that was segmented in windows."""

    def picture(self, image: Picture, mask: Picture, classes: ClassTable) -> Picture:
        """Return a frame (H, W, 3) of the format's video."""
        raise NotImplementedError  # a format with `has_video` has this method

    def video(self, files: OutputFiles, image: WrittenImage, frames: Path) -> None:
        """Write one file about a video from the file with a line for each frame."""

    def end(self, files: OutputFiles, classes: ClassTable, rows: Rows) -> None:
        """Write one file about all images and frames."""


class TextFormat(Format):
    """A text file for each image or frame.

    Args:
        name: of the folder.
        text: called with the image and its regions.
    """

    def __init__(self, name: str, suffix: str, text: Callable[..., str]) -> None:
        self.name, self.suffix, self.text = name, suffix, text

    def image(
        self,
        files: OutputFiles,
        image: WrittenImage,
        segmentation: Segmentation,
        regions: Sequence[Region],
    ) -> None:
        """Write the text of an image."""
        write_text(files.path(self.name, image.stem, self.suffix), self.text(image, regions))


class Masks(Format):
    """An index PNG, or a GeoTIFF for a map and for an image that was read in windows."""

    takes_large = True

    def image(
        self,
        files: OutputFiles,
        image: WrittenImage,
        segmentation: Segmentation,
        regions: Sequence[Region],
    ) -> None:
        """Write a mask."""
        if image.place:
            write_mask(files.path("masks", image.stem, ".tif"), segmentation.mask, image.place)
        else:
            write_png(files.path("masks", image.stem, ".png"), segmentation.mask)

    def large(self, files: OutputFiles, image: WrittenImage, large: LargeImage) -> None:
        """Keep the mask."""
        with atomic_file(files.path("masks", image.stem, ".tif")) as unfinished:
            shutil.copyfile(large.mask, unfinished)


class Overlays(Format):
    """The image with each class in its colour: a JPEG, or an MP4 for a video."""

    takes_large = has_video = True

    def __init__(self, opacity: Annotated[float, Field(ge=0, le=1)] = 0.5) -> None:
        self.opacity = opacity

    def image(
        self,
        files: OutputFiles,
        image: WrittenImage,
        segmentation: Segmentation,
        regions: Sequence[Region],
    ) -> None:
        """Write the overlay of an image."""
        if not image.is_frame:
            picture = self.picture(segmentation.image, segmentation.mask, image.classes)
            write_jpeg(files.path("overlays", image.stem, ".jpg"), picture)

    def large(self, files: OutputFiles, image: WrittenImage, large: LargeImage) -> None:
        """Write a small overlay."""
        picture = self.picture(large.overview, large.overview_mask, image.classes)
        write_jpeg(files.path("overlays", image.stem, ".jpg"), picture)

    def picture(self, image: Picture, mask: Picture, classes: ClassTable) -> Picture:
        """Return an overlay."""
        return draw_overlay(image, mask, classes, self.opacity)


class Polygons(Format):
    """The polygons of the regions in `regions.json`."""

    has_polygons = takes_large = True


class Coco(Format):
    """One COCO dataset with RLE masks."""

    takes_large = True

    def end(self, files: OutputFiles, classes: ClassTable, rows: Rows) -> None:
        """Write `coco.json`."""
        path = files.record.add(files.output / "coco.json")
        write_json(path, to_coco(rows(), classes))


class GeoJson(Format):
    """A MultiPolygon per region, on the map where the image has a place."""

    takes_large = True

    def image(
        self,
        files: OutputFiles,
        image: WrittenImage,
        segmentation: Segmentation,
        regions: Sequence[Region],
    ) -> None:
        """Write the regions of an image."""
        path = files.path("geojson", image.stem, ".geojson")
        write_json(path, to_geojson(regions, image.place))

    def large(self, files: OutputFiles, image: WrittenImage, large: LargeImage) -> None:
        """Write features one by one; together they may not fit into memory."""
        head = {"type": "FeatureCollection"} | crs_of(image.place)
        features = geojson_of(large.mask, image.classes, image.place)
        with text_file(files.path("geojson", image.stem, ".geojson")) as file:
            file.write(json.dumps(head)[:-1] + ', "features": [')
            for number, feature in enumerate(features):
                file.write((",\n" if number else "\n") + json.dumps(feature))
            file.write("\n]}\n")


class Yolo(Format):
    """YOLO-seg: a text file for each image, and `data.yaml` with the names of the classes."""

    def image(
        self,
        files: OutputFiles,
        image: WrittenImage,
        segmentation: Segmentation,
        regions: Sequence[Region],
    ) -> None:
        """Write the polygons of an image."""
        write_text(files.path("yolo", image.stem, ".txt"), to_yolo(regions))

    def end(self, files: OutputFiles, classes: ClassTable, rows: Rows) -> None:
        """Write the names of the classes."""
        lines = [f"  {n}: {json.dumps(name)}\n" for n, name in enumerate(classes.names)]
        path = files.record.add(files.output / "yolo" / "data.yaml")
        write_text(path, "names:\n" + "".join(lines))


class Clarifai(Format):
    """The answer of Clarifai's API for an image or a video."""

    def image(
        self,
        files: OutputFiles,
        image: WrittenImage,
        segmentation: Segmentation,
        regions: Sequence[Region],
    ) -> None:
        """Write the answer for an image."""
        if not image.is_frame:
            path = files.path("clarifai", image.stem, ".json")
            write_json(path, clarifai_image(image.name, regions))

    def video(self, files: OutputFiles, image: WrittenImage, frames: Path) -> None:
        """Write the answer for a video, frame by frame."""
        head, tail = clarifai_video(image.name)
        with text_file(files.path("clarifai", image.stem, ".json")) as file:
            file.write(head)
            for number, row in enumerate(frames_of(frames)):
                regions = [Region.from_json(r) for r in row["regions"]]
                frame = clarifai_frame(row["number"], row["time"], regions)
                file.write((", " if number else "") + json.dumps(frame, ensure_ascii=False))
            file.write(tail)


@dataclass(frozen=True)
class ChosenFormat:
    """A format of a prediction, with the options and the plugin that made it.

    Attributes:
        options: all of them, with the defaults of those that were not given.
    """

    part: Part
    options: Mapping[str, Any]
    format: Format


def open_formats(
    names: Iterable[str], options: Mapping[str, Mapping[str, Any]]
) -> dict[str, ChosenFormat]:
    """Return the formats of a prediction by their names.

    Args:
        options: name -> options of the format.

    Raises:
        ConfigError: no such format, or an option that it does not take.
    """
    chosen = {}
    for name in names:
        part = find("writer", name, "formats")
        given = checked_options(part, options.get(name, {}), f"format_options.{name}")
        chosen[name] = ChosenFormat(part, given, _opened(part, given))
    return chosen


def _opened(part: Part, options: Mapping[str, Any]) -> Format:
    target = part.load()
    made = target(**options) if isinstance(target, type) else partial(target, **options)
    if isinstance(made, Format):
        return made
    return TextFormat(part.name, str(part.facts.get("suffix", f".{part.name}")), made)
