"""Write the outputs of one image or frame in the requested formats; each file is atomic."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtune.classes import ClassTable
from segtune.inference.media.georeference import Georeference
from segtune.inference.prediction.journal import read_lines
from segtune.inference.prediction.rasters import write_mask
from segtune.inference.prediction.written import Record
from segtune.inference.regions.regions import SCHEMA_VERSION, Region
from segtune.inference.regions.writers import (
    WrittenImage,
    clarifai_frame,
    clarifai_image,
    clarifai_video,
    crs_of,
    to_coco,
)
from segtune.inference.segmenter import Segmentation
from segtune.plugins.registry import parts
from segtune.runtime.atomic import atomic_file

_FOLDERS = ("masks", "overlays", "clarifai", "edited")


def folders() -> tuple[str, ...]:
    """Return the outputs with a file per input, in a folder of that name.

    `edited` is for workflows with edits.
    """
    return (*_FOLDERS, *parts("writer"))


class Writer:
    """The outputs of one prediction."""

    def __init__(self, output: Path, formats: Sequence[str], classes: ClassTable) -> None:
        self.output, self.formats, self.classes = output, formats, classes
        self.record = Record(output)

    def locate(self, folder: str, stem: Path, suffix: str) -> Path:
        """Return the path of an output, for reading.

        Args:
            folder: a name in `folders`.
            stem: output_stem of the input; see `Input`.
        """
        target = self.output / folder / stem
        return target.with_name(target.name + suffix)

    def path(self, folder: str, stem: Path, suffix: str) -> Path:
        """Return the path of an output, for writing, and record it."""
        return self.record.add(self.locate(folder, stem, suffix))

    def picture(
        self, stem: Path, segmentation: Segmentation, georeference: Georeference | None = None
    ) -> None:
        """Write the mask and the overlay."""
        self.mask(stem, segmentation.mask, georeference)
        if "overlays" in self.formats:
            write_jpeg(self.path("overlays", stem, ".jpg"), segmentation.overlay())

    def edited(self, stem: Path, picture: NDArray[np.uint8]) -> None:
        """Write the picture that a workflow's edits made."""
        write_png(self.path("edited", stem, ".png"), picture)

    def mask(
        self, stem: Path, mask: NDArray[np.uint8], georeference: Georeference | None = None
    ) -> None:
        """Write the mask as an index PNG, or as a GeoTIFF if the image is a map."""
        if "masks" not in self.formats:
            return
        if georeference:
            write_mask(self.path("masks", stem, ".tif"), mask, georeference)
        else:
            write_png(self.path("masks", stem, ".png"), mask)

    def shapes(
        self, stem: Path, regions: Sequence[Region], georeference: Georeference | None = None
    ) -> None:
        """Write the regions in the formats of registered writers, such as GeoJSON and YOLO-seg."""
        image = WrittenImage(stem.as_posix(), self.classes, georeference)
        for name, part in parts("writer").items():
            if name in self.formats:
                suffix = str(part.facts.get("suffix", f".{name}"))
                write_text(self.path(name, stem, suffix), part.load()(image, regions))

    def large_geojson(
        self, stem: Path, features: Iterable[Mapping[str, Any]], georeference: Georeference | None
    ) -> None:
        """Write GeoJSON features one by one; together they may not fit into memory."""
        head = {"type": "FeatureCollection"} | crs_of(georeference)
        with text_file(self.path("geojson", stem, ".geojson")) as file:
            file.write(json.dumps(head)[:-1] + ', "features": [')
            for number, feature in enumerate(features):
                file.write((",\n" if number else "\n") + json.dumps(feature))
            file.write("\n]}\n")

    def clarifai_image(self, stem: Path, name: str, regions: Sequence[Region]) -> None:
        """Write the answer of Clarifai's API for an image."""
        if "clarifai" in self.formats:
            write_json(self.path("clarifai", stem, ".json"), clarifai_image(name, regions))

    def clarifai_video(self, stem: Path, name: str, frames_file: Path) -> None:
        """Write the answer of Clarifai's API for a video, frame by frame from its file of lines."""
        if "clarifai" not in self.formats:
            return
        head, tail = clarifai_video(name)
        with text_file(self.path("clarifai", stem, ".json")) as file:
            file.write(head)
            for number, row in enumerate(frames_of(frames_file)):
                regions = [Region.from_json(r) for r in row["regions"]]
                frame = clarifai_frame(row["number"], row["time"], regions)
                file.write((", " if number else "") + json.dumps(frame, ensure_ascii=False))
            file.write(tail)

    def write_summaries(
        self,
        model: str,
        images: Iterable[Mapping[str, Any]],
        videos: Sequence[Mapping[str, Any]],
        failed: Mapping[str, str],
        workflow: Mapping[str, Any] | None = None,
    ) -> None:
        """Write `regions.json` row by row, and the other files about all inputs."""
        target = self.record.add(self.output / "regions.json")
        if "coco" in self.formats:
            images = list(images)
            self._write_coco(images, videos)
        if "yolo" in self.formats:
            self._write_yolo_classes()
        head = {"schema_version": SCHEMA_VERSION, "model": model, "classes": self.classes.to_json()}
        if workflow:
            head["workflow"] = workflow
        with text_file(target) as file:
            file.write(json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "images": [')
            for number, row in enumerate(images):
                file.write((",\n  " if number else "\n  ") + json.dumps(row, ensure_ascii=False))
            tail = {"videos": videos, "failed": failed, "files": self.record.names()}
            file.write("\n ],\n " + json.dumps(tail, ensure_ascii=False)[1:] + "\n")

    def _write_coco(
        self, images: Sequence[Mapping[str, Any]], videos: Sequence[Mapping[str, Any]]
    ) -> None:
        rows = [*images]
        for video in videos:
            rows += self._frames(video)
        path = self.record.add(self.output / "coco.json")
        write_json(path, to_coco(rows, self.classes))

    def _write_yolo_classes(self) -> None:
        lines = [f"  {n}: {json.dumps(name)}\n" for n, name in enumerate(self.classes.names)]
        path = self.record.add(self.output / "yolo" / "data.yaml")
        write_text(path, "names:\n" + "".join(lines))

    def _frames(self, video: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The frames of a video as images of their own."""
        size = {"width": video["width"], "height": video["height"]}
        for row in frames_of(self.output / video["frames_file"]):
            name = f"{video['file']}#{row['number']:06d}"
            yield {"file": name, **size, "regions": row["regions"]}


def frames_of(path: Path) -> Iterator[dict[str, Any]]:
    """Read the frames of a video's file of lines; its first line holds the settings."""
    return (row for row in read_lines(path) if "number" in row)


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a PNG."""
    _write_picture(path, pixels, format="PNG", compress_level=3)


def write_jpeg(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture (H, W, 3) for people: JPEG takes a fortieth of the time of PNG."""
    _write_picture(path, pixels, format="JPEG", quality=92)


def _write_picture(path: Path, pixels: NDArray[np.uint8], **options: Any) -> None:
    with atomic_file(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, **options)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file."""
    write_text(path, json.dumps(value, ensure_ascii=False))


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with text_file(path) as file:
        file.write(text)


@contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """Open a text file that gets its name when the block succeeds."""
    with atomic_file(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        yield file
