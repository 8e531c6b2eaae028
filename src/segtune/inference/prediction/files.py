"""The files of one prediction: their places, the record of them, and how they are written."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtune.inference.prediction.journal import read_lines
from segtune.inference.prediction.written import Record
from segtune.runtime.atomic import atomic_file


class OutputFiles:
    """The output folder of a prediction, with a folder for each format."""

    def __init__(self, output: Path) -> None:
        self.output, self.record = output, Record(output)

    def locate(self, folder: str, stem: Path, suffix: str) -> Path:
        """Return the path of an output, for reading.

        Args:
            folder: name of the format.
            stem: output_stem of the input; see `Input`.
        """
        target = self.output / folder / stem
        return target.with_name(target.name + suffix)

    def path(self, folder: str, stem: Path, suffix: str) -> Path:
        """Return the path of an output, for writing, and record it."""
        return self.record.add(self.locate(folder, stem, suffix))


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
