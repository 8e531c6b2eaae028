"""The outputs of one prediction: its formats, and `regions.json` about all inputs."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.classes import ClassTable
from segtune.inference.prediction.files import OutputFiles, frames_of, text_file, write_png
from segtune.inference.prediction.formats import ChosenFormat, Format
from segtune.inference.prediction.rasters import LargeImage
from segtune.inference.regions.regions import SCHEMA_VERSION, Region
from segtune.inference.regions.writers import WrittenImage
from segtune.inference.segmenter import Segmentation

Rows = Iterable[Mapping[str, Any]]


class Writer(OutputFiles):
    """The outputs of one prediction.

    Args:
        chosen: the formats by their names.
    """

    def __init__(
        self, output: Path, chosen: Mapping[str, ChosenFormat], classes: ClassTable
    ) -> None:
        super().__init__(output)
        self.chosen, self.classes = chosen, classes
        self.formats: list[Format] = [c.format for c in chosen.values()]

    @property
    def has_polygons(self) -> bool:
        """Whether the regions in `regions.json` have polygons."""
        return any(one.has_polygons for one in self.formats)

    def image(
        self, image: WrittenImage, segmentation: Segmentation, regions: Sequence[Region]
    ) -> None:
        """Write an image, or a frame of a video."""
        for one in self.formats:
            one.image(self, image, segmentation, regions)

    def large(self, image: WrittenImage, large: LargeImage) -> None:
        """Write an image that was segmented in windows."""
        for one in self.formats:
            one.large(self, image, large)

    def video(self, image: WrittenImage, frames: Path) -> None:
        """Write the files about a whole video."""
        for one in self.formats:
            one.video(self, image, frames)

    def parts(self) -> dict[str, Any]:
        """Return the options and the plugin of each writer, for `regions.json`."""
        return {c.part.key: c.part.record(c.options) for c in self.chosen.values()}

    def edited(self, stem: Path, picture: NDArray[np.uint8]) -> None:
        """Write the picture that a workflow's edits made."""
        write_png(self.path("edited", stem, ".png"), picture)

    def write_summaries(
        self,
        head: Mapping[str, Any],
        images: Callable[[], Rows],
        videos: Sequence[Mapping[str, Any]],
        failed: Mapping[str, str],
    ) -> None:
        """Write `regions.json` row by row, and the other files about all inputs.

        Args:
            head: facts of the prediction, which `regions.json` begins with.
            images: reads the rows of the images from disk.
        """
        target = self.record.add(self.output / "regions.json")
        for one in self.formats:
            one.end(self, self.classes, lambda: self._images_and_frames(images(), videos))
        text = json.dumps(
            {"schema_version": SCHEMA_VERSION, **head}, ensure_ascii=False, indent=1, default=str
        )
        with text_file(target) as file:
            file.write(text[:-2] + ',\n "images": [')
            for number, row in enumerate(images()):
                file.write((",\n  " if number else "\n  ") + json.dumps(row, ensure_ascii=False))
            tail = {"videos": videos, "failed": failed, "files": self.record.names()}
            file.write("\n ],\n " + json.dumps(tail, ensure_ascii=False)[1:] + "\n")

    def _images_and_frames(
        self, images: Rows, videos: Sequence[Mapping[str, Any]]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the images, and the frames of videos as images of their own."""
        yield from images
        for video in videos:
            size = {"width": video["width"], "height": video["height"]}
            for row in frames_of(self.output / video["frames_file"]):
                name = f"{video['file']}#{row['number']:06d}"
                yield {"file": name, **size, "regions": row["regions"]}
