"""Pascal VOC: palette masks, or colour masks with a table, in SegmentationClass."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import Annotations, LabelledImage, annotation_options
from segtune.data.formats.declaration import Declaration
from segtune.data.formats.faults import reading
from segtune.data.formats.finding import FileFinder, split_called
from segtune.data.reading.images import MASK_SUFFIXES, read_colors, read_mask
from segtune.data.source.files import walk
from segtune.data.source.lists import divide_by_lists, read_list
from segtune.data.source.split_words import SPLITS
from segtune.errors import DataError

_VOC_CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor"
).split()


_VOID = (224, 224, 192)  # VOC's colour of borders and difficult objects

DECLARED = Declaration(
    "folder SegmentationClass with JPEGImages beside it",
    ("relocate", "ignore_colors"),
    has_mask_files=True,
    is_export=True,
)


def find_files(root: Path) -> tuple[Path, Path] | None:
    """The folders of images and of class masks, at most two levels below root."""
    for top in (root, *sorted(root.glob("*")), *sorted(root.glob("*/*"))):
        if (top / "SegmentationClass").is_dir() and (top / "JPEGImages").is_dir():
            return top / "JPEGImages", top / "SegmentationClass"
    return None


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read the image of each mask.

    Class names come from `labelmap.txt` (with colours), `class_names.txt` or `labels.txt`, else
    they are VOC's. Splits come from `ImageSets/Segmentation`.
    """
    folders = find_files(root)
    assert folders is not None  # the caller looked
    image_folder, mask_folder = folders
    top = image_folder.parent
    names, colors = _class_names(top)
    masks = list(walk(mask_folder, MASK_SUFFIXES))
    splits, notes = _splits(top, {file.rpartition(".")[0]: file for file in masks})
    finder = FileFinder(image_folder, annotation_options(config).relocate)
    ignored = (_VOID, *(tuple(color) for color in config.ignore_colors))
    images = []
    for file in masks:
        mask = mask_folder / file
        stem = file.rpartition(".")[0]
        image = finder.find_stem(stem, f"the image of '{mask}'")
        reader = _ColorMask(mask, colors, ignored) if colors else _IndexMask(mask, len(names))
        images.append(LabelledImage(stem, image, splits.get(stem), mask=reader))
    rows = [{"name": n, "color": list(colors[n])} if n in colors else {"name": n} for n in names]
    if names is _VOC_CLASSES:
        notes.append(
            f"'{top.name}' holds no class_names.txt and no labelmap.txt, so the classes are those "
            "of Pascal VOC. If they are others, add class_names.txt, with a name for each id."
        )
    return Annotations(rows, images, notes)


def _class_names(top: Path) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """Class names in the order of their ids, and name -> RGB where a table of colours exists."""
    table = top / "labelmap.txt"
    if table.is_file():
        rows = [line.split(":") for line in read_list(table)]
        colored = [row for row in rows if len(row) > 1 and row[1]]
        return _names_by_color(colored, table)
    for path in (top / "class_names.txt", top / "labels.txt", top.parent / "labels.txt"):
        if path.is_file():
            return [name for name in read_list(path) if name != "__ignore__"], {}
    return _VOC_CLASSES, {}


def _names_by_color(
    rows: Sequence[Sequence[str]], table: Path
) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """Names and name -> RGB of rows (name, "R,G,B", …).

    Raises:
        DataError: a colour is none, or two classes share a name or a colour.
    """
    colors: dict[str, tuple[int, ...]] = {}
    for name, text, *_ in rows:
        with reading(f"'{table}' {name}"):
            color = tuple(map(int, text.split(",")))
        if len(color) != 3 or min(color) < 0 or max(color) > 255:
            raise DataError(f"'{table}' {name} has the colour {text}; R,G,B of 0..255 is allowed.")
        if name in colors or color in colors.values():
            raise DataError(
                f"'{table}' names the class {name} or its colour {text} twice; every class needs "
                "a name and a colour of its own."
            )
        colors[name] = color
    return list(colors), colors


def _splits(top: Path, masks: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Image name -> split, as the first folder with lists says, and notes on what they leave out.

    Args:
        masks: image name -> file of its mask.
    """
    for folder in (top / "ImageSets" / "Segmentation", top / "ImageSets", top):
        files = [path for path in sorted(folder.glob("*.txt")) if path.stem[0].isalpha()]
        lists: dict[str | None, Path] = {}
        for path in files:
            split = split_called(path.stem.removesuffix("_list"), str(path))
            if lists.setdefault(split, path) != path and split in SPLITS:
                raise DataError(
                    f"'{lists[split]}' and '{path.name}' are both lists of {split}. Remove one."
                )
        names = {split: lists[split] for split in SPLITS if split in lists}
        if names:
            return divide_by_lists({s: (p, read_list(p)) for s, p in names.items()}, masks)
    return {}, []


@dataclass(frozen=True)
class _IndexMask:
    """Reads the class ids of an index or palette mask."""

    path: Path
    num_classes: int

    def __call__(self) -> NDArray[np.uint8]:
        ids = read_mask(self.path)
        unknown = ids[(ids >= self.num_classes) & (ids != IGNORE_INDEX)]
        if unknown.size:
            raise DataError(
                f"mask '{self.path}' holds label {int(unknown[0])} ({unknown.size:,} px), "
                f"but 0..{self.num_classes - 1} are named. Add the class to class_names.txt."
            )
        return ids


@dataclass(frozen=True)
class _ColorMask:
    """Reads the class ids of a colour mask; VOC's void and `ignored` colours become 255."""

    path: Path
    colors: dict[str, tuple[int, ...]]
    ignored: Sequence[tuple[int, ...]]

    def __call__(self) -> NDArray[np.uint8]:
        pixels = read_colors(self.path)
        ids = np.full(pixels.shape[:2], IGNORE_INDEX, np.uint8)
        is_known = np.zeros(ids.shape, bool)
        for color in self.ignored:
            is_known |= (pixels == color).all(2)
        for class_id, color in enumerate(self.colors.values()):
            is_class = (pixels == color).all(2)
            ids[is_class], is_known = class_id, is_known | is_class
        if not is_known.all():
            colors, counts = np.unique(pixels[~is_known], axis=0, return_counts=True)
            most_frequent = ",".join(map(str, colors[counts.argmax()].tolist()))
            raise DataError(
                f"mask '{self.path}' holds {len(colors)} colours that labelmap.txt does not name, "
                f"{counts.sum():,} px, most often {most_frequent}. Add the class to labelmap.txt, "
                f"or ignore it: 'dataset.ignore_colors=[[{most_frequent}]]'."
            )
        return ids
