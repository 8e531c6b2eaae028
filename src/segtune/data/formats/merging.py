"""One entry for each image, where several files or rows of the annotations name it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from segtune.data.formats.areas import DrawnArea, LabelledImage, areas_of, draw_areas
from segtune.data.formats.faults import LeftOut
from segtune.data.formats.run_lengths import Bits
from segtune.data.reading.images import stored_size
from segtune.errors import DataError

_JOINED = "images are named more than once; their areas were joined"
_DIFFERENT = (
    "images are labelled otherwise by {}, with other areas of the same classes; the areas of all "
    "were joined. To use those of one, move the others out of the folder"
)
_OTHER_CLASS = (
    "images have areas to which {} give different classes; the areas of all were joined, and the "
    "one on top counts. To use those of one file, move the others out of the folder"
)
_LEAST_SHARE = 0.98  # of the pixels of a class, that two files must share to say the same
_SAME_AREA = 0.8  # of the pixels of two areas, that both share, for them to be the same area
_IN_SPLITS = (
    "images are named in several splits and belong to each: the score counts learned images"
)
_REPEATED = "images are named more than once with the same mask and were read once"


def merged(images: Sequence[LabelledImage], left_out: LeftOut) -> list[LabelledImage]:
    """Join the entries of one image file.

    Entries of two splits stay apart: they are a leak, which `segtune check` reports.

    Raises:
        DataError: an image has two masks, or two sizes.
    """
    paths = [os.path.normpath(image.image) for image in images]
    splits: dict[str, set[str]] = {path: set() for path in paths}
    for path, image in zip(paths, images, strict=True):
        if image.split is not None:
            splits[path].add(image.split)
    for path, named in splits.items():
        if len(named) > 1:
            left_out.add(_IN_SPLITS, f"'{os.path.basename(path)}' ({', '.join(sorted(named))})")
    entries: dict[tuple[str, str | None], list[LabelledImage]] = {}
    for path, image in zip(paths, images, strict=True):
        named = splits[path]
        split = image.split or (next(iter(named)) if len(named) == 1 else None)
        entries.setdefault((path, split), []).append(replace(image, split=split))
    return [_joined(rows, left_out) for rows in entries.values()]


def _joined(rows: list[LabelledImage], left_out: LeftOut) -> LabelledImage:
    first = rows[0]
    if len(rows) == 1:
        return first
    if any(row.mask is not None for row in rows):
        if any(row.mask != first.mask for row in rows):
            raise DataError(
                f"the annotations name '{first.image}' {len(rows)} times, with masks that are not "
                "one file; an image has one mask. Remove the rows that do not count."
            )
        left_out.add(_REPEATED, f"'{first.image.name}'")
        return first
    sizes = {row.size for row in rows if row.size is not None}
    if len(sizes) > 1:
        words = " and ".join(f"{width} x {height}" for height, width in sorted(sizes))
        raise DataError(
            f"the annotations give '{first.image}' two sizes, {words} pixels. Export them again."
        )
    files = sorted({row.file for row in rows})
    size = next(iter(sizes), None)
    reason = _JOINED if len(files) == 1 else _disagreement(rows, size)
    reason = reason.format(" and ".join(f"'{file}'" for file in files))
    left_out.add(reason, f"'{first.image.name}'")
    return replace(first, areas=areas_of(rows), size=size)


def _disagreement(rows: Sequence[LabelledImage], size: tuple[int, int] | None) -> str:
    """The reason to note on an image that several files label, by how these differ.

    Args:
        size: (height, width) in the annotations; None to look at the image.
    """
    height, width = size or stored_size(rows[0].image, str(rows[0].image))[:2]
    drawn: dict[str, list[DrawnArea]] = {}  # file -> its areas
    for row in rows:
        drawn.setdefault(row.file, []).extend(draw_areas(row.areas, (height, width), LeftOut()))
    for first, second in combinations(drawn.values(), 2):
        if _share_an_area(first, second):
            return _OTHER_CLASS
    return _JOINED if _agree(drawn, (height, width)) else _DIFFERENT


def _agree(drawn: Mapping[str, Sequence[DrawnArea]], size: tuple[int, int]) -> bool:
    """Whether files that label one class in an image label about the same pixels."""
    pixels: dict[str | None, dict[str, Bits]] = {}  # class -> file -> its pixels
    for file, areas in drawn.items():
        for one in areas:
            by_file = pixels.setdefault(one.area.concept, {})
            shown = by_file.setdefault(file, np.zeros(size, bool))
            shown[one.window] |= one.bits
    for by_file in pixels.values():
        for first, second in combinations(by_file.values(), 2):
            shared = np.count_nonzero(first & second)
            if shared < _LEAST_SHARE * np.count_nonzero(first | second):
                return False
    return True


def _share_an_area(first: Sequence[DrawnArea], second: Sequence[DrawnArea]) -> bool:
    """Whether an area of one file is also one of the other, of another class."""
    second = [one for one in second if one.num_pixels and one.area.concept is not None]
    if not second:
        return False
    boxes = np.array([_box(one) for one in second])
    totals = np.array([one.num_pixels for one in second])
    for one in first:
        if not one.num_pixels or one.area.concept is None:
            continue
        top, left, bottom, right = _box(one)
        overlaps = (boxes[:, 0] < bottom) & (boxes[:, 2] > top)
        overlaps &= (boxes[:, 1] < right) & (boxes[:, 3] > left)
        overlaps &= np.minimum(totals, one.num_pixels) >= _SAME_AREA * np.maximum(
            totals, one.num_pixels
        )
        others = [second[index] for index in np.flatnonzero(overlaps)]
        classes = {other.area.concept for other in others if _are_same(one, other)}
        if classes and one.area.concept not in classes:
            return True
    return False


def _box(one: DrawnArea) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of an area."""
    rows, columns = one.window
    return rows.start, columns.start, rows.stop, columns.stop


def _are_same(first: DrawnArea, second: DrawnArea) -> bool:
    pixels = np.zeros(first.size, bool)
    pixels[first.window] = first.bits
    shared = int(np.count_nonzero(pixels[second.window] & second.bits))
    return shared >= _SAME_AREA * (first.num_pixels + second.num_pixels - shared)
