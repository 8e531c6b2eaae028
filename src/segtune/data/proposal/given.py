"""Refuse keys that the user gave and that no file of the folder fits, with the nearest names."""

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.audit.suffixes import suffix_hint
from segtune.data.reading.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from segtune.data.source.files import walk
from segtune.data.source.patterns import SPLIT, fitting_files, of_split, splits_in, top_folder
from segtune.errors import DataError, nearest

_END = re.compile(r"[_\-. ][^_\-. ]+$")  # of a stem, as `_mask`
_SIDES = {
    "images": ("image", "image_suffix", IMAGE_SUFFIXES),
    "masks": ("mask", "mask_suffix", MASK_SUFFIXES),
}
"""Key of a folder -> what it holds, the key of the end of its names, and suffixes of its files."""


def refuse_given(root: Path, config: DatasetConfig, given: Collection[str]) -> None:
    """Refuse given folders and suffixes that pair no image with a mask; say which one is wrong.

    Does nothing where none of these keys is given.

    Raises:
        DataError: a folder does not exist, no name ends so, or no image has the name of a mask.
    """
    stated = [key for side in _SIDES for key in (side, _SIDES[side][1]) if key in given]
    if not stated:
        return
    for side in _SIDES:
        if side in given:
            _refuse_missing(root, config, side)
        if _SIDES[side][1] in given:
            _refuse_unused_end(root, config, side, side in given)
    said = " ".join(f"dataset.{key}={getattr(config, key)}" for key in stated)
    if {"images", "masks"} <= set(given):
        images, masks = _names(root, config, "images"), _names(root, config, "masks")
        hint = suffix_hint(images, masks).removeprefix(", or pair them: ")
        raise DataError(
            f"'{root}': {said} pair none of {len(images)} images with one of {len(masks)} masks, "
            f"as '{next(iter(images), '')}' and '{next(iter(masks), '')}'. A mask has the name of "
            f"its image{f': add {hint}' if hint else ''}."
        )
    raise DataError(
        f"'{root}': no images and masks of equal names fit {said}. Leave the key out, or give "
        "dataset.images and dataset.masks, both."
    )


def _refuse_missing(root: Path, config: DatasetConfig, side: str) -> None:
    """Raise DataError where no folder, or no file, fits the pattern of a side."""
    kind, _, suffixes = _SIDES[side]
    pattern = getattr(config, side)
    places = [root / top_folder(of_split(pattern, text)) for text in _texts(root, pattern)]
    if not any(place.is_dir() for place in places):
        folders = {str(PurePosixPath(file).parent) for file in walk(root, suffixes)} - {"."}
        wanted = pattern.partition("/{")[0]
        raise DataError(
            f"dataset.{side}={pattern}: there is no such folder in '{root}'; "
            f"{nearest(wanted, folders)}"
        )
    for text in _texts(root, pattern):
        if fitting_files(root, of_split(pattern, text), suffixes):
            return
    example = next(walk(places[0], suffixes), None)
    raise DataError(
        f"dataset.{side}={pattern}: no {kind} in '{places[0]}' fits it; "
        + (f"there is '{example}'." if example else f"it holds no file of {', '.join(suffixes)}.")
    )


def _refuse_unused_end(root: Path, config: DatasetConfig, side: str, is_given: bool) -> None:
    """Raise DataError where no name of a side has the end that is given."""
    kind, key, suffixes = _SIDES[side]
    end = getattr(config, key)
    pattern = getattr(config, side)
    places = [root]
    if is_given:
        places = [root / top_folder(of_split(pattern, text)) for text in _texts(root, pattern)]
    stems: dict[str, None] = {}
    for place in places:
        stems |= dict.fromkeys(PurePosixPath(file).stem for file in walk(place, suffixes))
    if any(stem.endswith(end) for stem in stems):
        return
    ends = {match[0] for match in map(_END.search, stems) if match}
    example = f", as '{next(iter(stems))}'" if stems else ""
    raise DataError(
        f"dataset.{key}={end}: of {len(stems)} names of {kind}s{example}, none ends so; "
        f"{nearest(end, ends)}"
    )


def _texts(root: Path, pattern: str) -> list[str]:
    """What may stand for `{split}` in a pattern."""
    return splits_in(root, pattern) if SPLIT in pattern else [""]


def _names(root: Path, config: DatasetConfig, side: str) -> dict[str, Path]:
    """Name -> file, of a side in all splits."""
    _, key, suffixes = _SIDES[side]
    pattern, end = getattr(config, side), getattr(config, key)
    names: dict[str, Path] = {}
    for text in _texts(root, pattern):
        names |= dict(fitting_files(root, of_split(pattern, text), suffixes, end))
    return names
