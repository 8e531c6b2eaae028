"""Oxford-IIIT Pet (Parkhi et al., 2012) as published: trimaps of one pet, and lists of images.

A trimap holds 1 for the pet, 2 for the background, and 3 for pixels that are not classified.
"""

from collections.abc import Sequence
from pathlib import Path

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import Annotations, LabelledImage, annotation_options
from segtune.data.formats.declaration import Declaration
from segtune.data.formats.faults import LeftOut
from segtune.data.formats.finding import FileFinder
from segtune.data.formats.value_masks import ValueMask
from segtune.data.source.files import walk
from segtune.data.source.names import composed, in_any_form
from segtune.data.source.text import read_lines
from segtune.errors import DataError

_SPLITS = {"trainval": None, "test": "test"}
"""List -> split of its images; those without one are divided into train and val."""

_ALLOWED = "trimaps hold 1 (pet), 2 (background) and 3 (not classified). Download it again."
_NOTE = (
    "the value 3 of the trimaps, not classified, is ignored; as a class of its own: "
    "'dataset.classes=[pet,background,border]'"
)

DECLARED = Declaration(
    "folder annotations/trimaps with images beside annotations",
    ("relocate",),
    has_mask_files=True,
)


def find_files(root: Path) -> list[Path]:
    """The lists of images, where trimaps lie beside them."""
    folder = root / "annotations"
    lists = [folder / f"{name}.txt" for name in _SPLITS]
    return [path for path in lists if path.is_file() and (folder / "trimaps").is_dir()]


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read the images that the lists name; the first word of a line is a name.

    With three classes in `dataset.classes`, the values 1, 2 and 3 are these; else 3 is ignored.
    """
    names = ["background", "pet"]
    ids = {1: 1, 2: 0, 3: IGNORE_INDEX}
    notes = [_NOTE]
    if config.classes is not None and len(config.classes) == 3:
        names, notes = list(ClassTable.parse(config.classes).names), []
        ids = {1: 0, 2: 1, 3: 2}
    folder = root / "annotations" / "trimaps"
    finder = FileFinder(root, annotation_options(config).relocate)
    images: list[LabelledImage] = []
    for path in find_files(root):
        for name in _names(path):
            where = f"'{path}', '{name}',"
            trimap = in_any_form(folder, f"{name}.png")
            if trimap is None:
                raise DataError(
                    f"{where} has no trimap '{folder / name}.png'. Unpack the annotations again."
                )
            image = finder.find_stem(f"images/{name}", where)
            split = _SPLITS[path.stem]
            images.append(LabelledImage(name, image, split, mask=ValueMask(trimap, ids, _ALLOWED)))
    left_out = LeftOut()
    listed = {composed(image.name) for image in images}
    for file in walk(folder, (".png",)):
        if composed(file.removesuffix(".png")) not in listed:
            left_out.add("trimaps are in no list and were left out", f"'{file}'")
    return Annotations([{"name": name} for name in names], images, notes + left_out.notes())


def _names(path: Path) -> Sequence[str]:
    return [line.split()[0] for line in read_lines(path) if not line.startswith("#")]
