"""Files in the folders of images and masks that no reader takes, for their suffix."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from segtune.data.audit.findings import Finding
from segtune.data.reading.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from segtune.data.source.files import walk
from segtune.data.source.layout import Source
from segtune.errors import DataError

_NO_DATA = ("", ".txt", ".json", ".xml", ".csv", ".yaml", ".yml", ".md", ".db", ".ini", ".html")


def passed_over(source: Source, splits: Sequence[str]) -> list[Finding]:
    """Files that lie among images or masks and could be some, but have another suffix."""
    files: list[str] = []
    for pattern, suffixes in (
        (source.config.images, IMAGE_SUFFIXES),
        (source.config.masks, MASK_SUFFIXES),
    ):
        for folder in dict.fromkeys(source.folder(pattern, split) for split in splits):
            files += [source.short(folder / file) for file in _others(folder, suffixes)]
    files = list(dict.fromkeys(files))
    if not files:
        return []
    counts = Counter(PurePosixPath(file).suffix.lower() or "none" for file in files)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
    repair = (
        f"convert them ({kinds}); read are {', '.join(IMAGE_SUFFIXES)}, and .gif, "
        ".npy and .mat for masks. Masks should be PNG"
    )
    return [Finding("passed_over", files, [f"'{file}'" for file in files], repair)]


def no_image(source: Source, splits: Sequence[str]) -> DataError:
    """The error for a dataset without any image; it says what lies there instead."""
    counts: Counter[str] = Counter()
    for split in splits:
        folder = source.folder(source.config.images, split)
        counts.update(PurePosixPath(file).suffix.lower() or "none" for file in walk(folder))
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(5))
    return DataError(
        f"dataset '{source.name}': no image in '{source.root / source.config.images}'; there are "
        f"{kinds or 'no files'}. Read are {', '.join(IMAGE_SUFFIXES)}; each name ends in "
        f"'{source.config.image_suffix}' (dataset.image_suffix)."
    )


def suffix_hint(images: Collection[str], masks: Collection[str]) -> str:
    """The config line that pairs masks which are called as their images and something more.

    >>> suffix_hint(["a", "b"], ["a_mask", "b_mask"])
    ', or pair them: dataset.mask_suffix=_mask'
    """
    suffixes: Counter[str] = Counter()
    known = set(images)
    for mask in masks:
        for length in range(len(mask) - 1, 0, -1):
            if mask[:length] in known:
                suffixes[mask[length:]] += 1
                break
    for suffix, count in suffixes.most_common(1):
        if count > len(masks) / 2:
            return f", or pair them: dataset.mask_suffix={suffix}"
    return ""


def _others(folder: Path, suffixes: Sequence[str]) -> list[str]:
    others = []
    for file in walk(folder):
        suffix = PurePosixPath(file).suffix.lower()
        if suffix not in suffixes and suffix not in _NO_DATA:
            others.append(file)
    return others
