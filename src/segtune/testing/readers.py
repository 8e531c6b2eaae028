"""The contract of a reader of annotations."""

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import AnnotationsConfig, DatasetConfig
from segtune.data.formats.areas import Annotations, LabelledImage
from segtune.data.reading.images import IMAGE_SUFFIXES, read_image
from segtune.errors import ConfigError, DataError

_MOST_BYTES = 2_000_000  # of a file that is damaged


class Reader(Protocol):
    """What is registered as a reader: a class with static methods, or a module."""

    def find_files(self, folder: Path) -> object:
        """Return the annotation files below a folder; something false if there are none."""

    def read(self, folder: Path, config: DatasetConfig) -> Annotations:
        """Return the images with their labels."""


def check_reader(reader: Any, folder: str | Path, **options: Any) -> None:
    """Check a reader on a small example of its format; the folder stays as it is.

    It finds nothing in an empty folder. It reads the same twice. Its images exist and have names of
    their own. Areas have the size of their image and a class of the table; masks hold ids of the
    table, and 255. A damaged file gives a DataError, or is read.

    Args:
        reader: as it is registered.
        folder: images and annotations.
        options: of `dataset.annotations`.

    Raises:
        AssertionError: one of these does not hold.
    """
    root = Path(folder)
    annotations = {"format": "auto", **options}
    config = DatasetConfig(
        name="example",
        source="annotations",
        root=str(root),
        annotations=AnnotationsConfig(**annotations),
    )
    before = _files(root)
    with tempfile.TemporaryDirectory() as empty:
        assert not reader.find_files(Path(empty)), "it finds annotations in an empty folder"
    assert reader.find_files(root), f"it finds no annotations in '{root}'"
    first, again = reader.read(root, config), reader.read(root, config)
    assert first.images, f"it reads no image of '{root}'"
    _check_names(first.images)
    for one, other in zip(first.images, again.images, strict=True):
        labels = _labels(one, first)
        same = one.name == other.name and _is_same(labels, _labels(other, again))
        assert same, f"'{one.name}' has other labels when the folder is read again"
    assert _files(root) == before, "it changes the files of the folder"
    _check_damaged(reader, root, config)


def _files(root: Path) -> dict[str, bytes]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def _check_names(images: Iterable[LabelledImage]) -> None:
    seen: set[tuple[str | None, str]] = set()
    for image in images:
        key = (image.split, image.name)
        assert key not in seen, f"two images have the name '{image.name}'"
        seen.add(key)
        assert image.data or image.image.is_file(), f"'{image.image}' does not exist"


def _labels(image: LabelledImage, annotations: Annotations) -> list[NDArray[Any]]:
    """Return the mask, or the areas, of an image; check them."""
    names = [str(row["name"]) for row in annotations.classes]
    pixels = read_image(image.data() if image.data else image.image)
    size = pixels.shape[:2]
    if image.mask is not None:
        assert not image.areas, f"'{image.name}' has a mask and areas"
        mask = image.mask()
        assert mask.shape == size and mask.dtype == np.uint8, (
            f"the mask of '{image.name}' is {mask.dtype} of {mask.shape}; expected is uint8 of "
            f"{size}"
        )
        unknown = [int(i) for i in np.unique(mask) if i >= len(names) and i != IGNORE_INDEX]
        assert not unknown, f"the mask of '{image.name}' holds ids {unknown} without a class"
        return [mask]
    drawn = []
    for area in image.areas:
        assert area.concept is None or area.concept in names, (
            f"'{image.name}' has an area of '{area.concept}', and the classes are {names}"
        )
        bits = np.asarray(area.draw(*size))
        assert bits.shape == size and bits.dtype == bool, (
            f"an area of '{image.name}' is {bits.dtype} of {bits.shape}; expected is bool of {size}"
        )
        drawn.append(bits)
    return drawn


def _is_same(one: list[NDArray[Any]], other: list[NDArray[Any]]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def _check_damaged(reader: Any, root: Path, config: DatasetConfig) -> None:
    for name, content in _files(root).items():
        if Path(name).suffix.lower() in IMAGE_SUFFIXES or len(content) > _MOST_BYTES:
            continue
        for damage, changed in _damaged(content).items():
            with tempfile.TemporaryDirectory() as place:
                copy = Path(place) / "copy"
                shutil.copytree(root, copy)
                (copy / name).write_bytes(changed)
                _check_error(reader, copy, config, f"'{name}', {damage},")


def _damaged(content: bytes) -> Mapping[str, bytes]:
    return {
        "empty": b"",
        "cut in half": content[: len(content) // 2],
        "replaced by bytes": bytes(range(256)),
    }


def _check_error(reader: Any, copy: Path, config: DatasetConfig, file: str) -> None:
    moved = config.model_copy(update={"root": str(copy)})
    try:
        if reader.find_files(copy):
            reader.read(copy, moved)
    except (DataError, ConfigError):
        return
    except Exception as error:
        raise AssertionError(
            f"{file} gives {type(error).__name__}: {error}; a DataError with the file is expected "
            "(segtune.data.source.files.read_json raises it)"
        ) from error
