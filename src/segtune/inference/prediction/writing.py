"""One image or frame to files, in the formats that were asked for; each file is written whole or not at all."""

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
    clarifai_frame,
    clarifai_image,
    clarifai_video,
    crs_of,
    to_coco,
    to_geojson,
    to_yolo,
)
from segtune.inference.segmenter import Segmentation
from segtune.runtime.atomic import atomic_file

FOLDERS = {"masks": "masks", "overlays": "overlays", "geojson": "geojson", "yolo": "yolo", "clarifai": "clarifai",
           "edited": "edited"}  # fmt: skip
"""What is written -> its folder under the output; regions.json and coco.json are single files."""


class Writer:
    """Where the outputs of one prediction go."""

    def __init__(self, output: Path, formats: Sequence[str], classes: ClassTable) -> None:
        self.output, self.formats, self.classes = output, formats, classes
        self.record = Record(output)

    def locate(self, kind: str, place: Path, suffix: str) -> Path:
        """The file of a format for an input's place, to be read."""
        target = self.output / FOLDERS[kind] / place
        return target.with_name(target.name + suffix)

    def path(self, kind: str, place: Path, suffix: str) -> Path:
        """The same, to be written: noted as written here."""
        return self.record.add(self.locate(kind, place, suffix))

    def picture(
        self, place: Path, found: Segmentation, georeference: Georeference | None = None
    ) -> None:
        """The mask, and the overlay."""
        self.mask(place, found.mask, georeference)
        if "overlays" in self.formats:
            write_jpeg(self.path("overlays", place, ".jpg"), found.overlay())

    def edited(self, place: Path, picture: NDArray[np.uint8]) -> None:
        """What a workflow's edits made of the image."""
        write_png(self.path("edited", place, ".png"), picture)

    def mask(
        self, place: Path, mask: NDArray[np.uint8], georeference: Georeference | None = None
    ) -> None:
        """The mask as an index PNG; as a GeoTIFF where the image lies on a map."""
        if "masks" in self.formats and georeference:
            write_mask(self.path("masks", place, ".tif"), mask, georeference)
        elif "masks" in self.formats:
            write_png(self.path("masks", place, ".png"), mask)

    def shapes(
        self, place: Path, regions: Sequence[Region], georeference: Georeference | None = None
    ) -> None:
        """Outlines as GeoJSON and YOLO-seg."""
        if "geojson" in self.formats:
            write_json(self.path("geojson", place, ".geojson"), to_geojson(regions, georeference))
        if "yolo" in self.formats:
            write_text(self.path("yolo", place, ".txt"), to_yolo(regions))

    def large_geojson(
        self, place: Path, features: Iterable[Mapping[str, Any]], georeference: Georeference | None
    ) -> None:
        """The outlines of an image that is larger than memory, feature by feature."""
        head = {"type": "FeatureCollection"} | crs_of(georeference)
        with whole(self.path("geojson", place, ".geojson")) as file:
            file.write(json.dumps(head)[:-1] + ', "features": [')
            for number, feature in enumerate(features):
                file.write((",\n" if number else "\n") + json.dumps(feature))
            file.write("\n]}\n")

    def clarifai_image(self, place: Path, name: str, regions: Sequence[Region]) -> None:
        """The answer of Clarifai's API for an image."""
        if "clarifai" in self.formats:
            write_json(self.path("clarifai", place, ".json"), clarifai_image(name, regions))

    def clarifai_video(self, place: Path, name: str, frames_file: Path) -> None:
        """The same for a video, out of its frames' lines, which may be more than memory holds."""
        if "clarifai" not in self.formats:
            return
        before, after = clarifai_video(name)
        with whole(self.path("clarifai", place, ".json")) as file:
            file.write(before)
            for number, row in enumerate(frames_of(frames_file)):
                regions = [Region.from_json(r) for r in row["regions"]]
                frame = clarifai_frame(row["number"], row["time"], regions)
                file.write((", " if number else "") + json.dumps(frame, ensure_ascii=False))
            file.write(after)

    def summaries(
        self, model: str, images: Iterable[Mapping[str, Any]], videos: Sequence[Mapping[str, Any]],
        failed: Mapping[str, str], workflow: Mapping[str, Any] | None = None,
    ) -> Path:  # fmt: skip
        """`regions.json`, row by row, and what else stands for all inputs together."""
        target = self.record.add(self.output / "regions.json")
        head = {"schema_version": SCHEMA_VERSION, "model": model, "classes": self.classes.to_json()}
        head |= {"workflow": workflow} if workflow else {}
        kept = list(images) if "coco" in self.formats else images
        if "coco" in self.formats:
            assert isinstance(kept, list)
            frames = (f for v in videos for f in self._frames(v))
            write_json(
                self.record.add(self.output / "coco.json"), to_coco([*kept, *frames], self.classes)
            )
        if "yolo" in self.formats:
            names = "".join(
                f"  {n}: {json.dumps(name)}\n" for n, name in enumerate(self.classes.names)
            )
            write_text(self.record.add(self.output / "yolo" / "data.yaml"), f"names:\n{names}")
        with whole(target) as file:
            file.write(json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "images": [')
            for number, row in enumerate(kept):
                file.write((",\n  " if number else "\n  ") + json.dumps(row, ensure_ascii=False))
            tail = {"videos": videos, "failed": failed, "files": self.record.names()}
            file.write("\n ],\n " + json.dumps(tail, ensure_ascii=False)[1:] + "\n")
        return target

    def _frames(self, video: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        size = {"width": video["width"], "height": video["height"]}
        for row in frames_of(self.output / video["frames_file"]):
            yield {
                "file": f"{video['file']}#{row['number']:06d}",
                **size,
                "regions": row["regions"],
            }


def frames_of(path: Path) -> Iterator[dict[str, Any]]:
    """The frames of a video's file of lines, without its head and its end."""
    return (row for row in read_lines(path) if "number" in row)


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes a PNG whole or not at all."""
    _write_picture(path, pixels, format="PNG", compress_level=3)


def write_jpeg(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes a picture (H, W, 3) to look at, whole or not at all; JPEG costs a fortieth of PNG."""
    _write_picture(path, pixels, format="JPEG", quality=92)


def _write_picture(path: Path, pixels: NDArray[np.uint8], **how: Any) -> None:
    with atomic_file(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, **how)


def write_json(path: Path, value: Any) -> None:
    """Writes an object whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False))


def write_text(path: Path, text: str) -> None:
    """Writes text whole or not at all."""
    with whole(path) as file:
        file.write(text)


@contextmanager
def whole(path: Path) -> Iterator[TextIO]:
    """A text file that takes its name when all of it is written."""
    with atomic_file(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        yield file
