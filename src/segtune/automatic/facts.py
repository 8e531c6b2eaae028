"""The facts of a dataset on which the decisions rest: sizes, shares, widths of classes, groups."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segtune.data.audit import Audit, audit
from segtune.data.audit.examine import PairFacts, examine_all
from segtune.data.audit.names import check_names
from segtune.data.batches.decoded import spread_evenly
from segtune.data.reading.images import resize_mask, target_size
from segtune.data.source.files import read_bytes
from segtune.data.source.layout import Source
from segtune.errors import DataError
from segtune.runtime.log import Log

_MOST_EXAMINED = 1500  # pairs; of a larger dataset, so many are examined
_MASKS_MEASURED = 40  # train masks in which the widths of classes are measured


@dataclass(frozen=True)
class DataFacts:
    """What the images and masks of a dataset are like.

    Attributes:
        images: split -> number of images.
        size: (height, width) of the median train image, in pixels.
        shares: class -> share of the counted train pixels, in [0, 1].
        widths: class -> median width of its areas in pixels, with images at `image_size`.
        image_size: the size at which the widths were measured, as `hp.image_size`.
        halves: how much the classes of the upper half of the images differ from those of the
            lower half: the total variation distance of their shares, in [0, 1].
        groups: number of groups of train and val images; None where the dataset defines none.
    """

    images: Mapping[str, int]
    size: tuple[int, int]
    shares: Mapping[str, float]
    widths: Mapping[str, float]
    image_size: Sequence[int]
    halves: float
    groups: int | None

    @property
    def shown(self) -> dict[str, float]:
        """The classes that train masks show, with their shares."""
        return {name: share for name, share in self.shares.items() if share > 0.0}

    @property
    def thinnest(self) -> tuple[str, float]:
        """The class of the narrowest areas, and their width in pixels."""
        return min(self.widths.items(), key=lambda item: item[1])

    @property
    def rarest(self) -> tuple[str, float]:
        """The class with the smallest share of the train pixels that is shown at all."""
        return min(self.shown.items(), key=lambda item: item[1])


def examine_dataset(source: Source, image_size: Sequence[int], say: Log) -> Audit:
    """Check a dataset; of a very large one, the names of all files and an even choice of pairs."""
    splits = source.splits()
    total = sum(len(source.all_images(split)) for split in splits)
    if total <= _MOST_EXAMINED:
        return audit(source, image_size, say)
    pairs, findings = check_names(source, splits)
    chosen = [pairs[index] for index in spread_evenly(len(pairs), _MOST_EXAMINED)]
    say(f"examining {len(chosen):,} of {len(pairs):,} pairs; `segtune check` examines all")
    examine_all(source, chosen, image_size, lambda done, total: None)
    return Audit(source, splits, chosen, findings, image_size)


def refuse_too_few(source: Source) -> None:
    """Refuse a dataset of fewer than two images.

    Raises:
        DataError: it has none, or one.
    """
    count = sum(len(source.all_images(split)) for split in source.splits())
    if count < 2:
        raise _too_few(source, count)


def _too_few(source: Source, count: int) -> DataError:
    return DataError(
        f"dataset '{source.name}' has {count} train images with a readable mask in "
        f"'{source.root}'. One image teaches and another one measures: two are the least, and "
        "twenty are a start. Add images with masks, or name their folder with dataset.root."
    )


def facts_of(found: Audit) -> DataFacts:
    """The facts of a checked dataset.

    Raises:
        DataError: fewer than two images, or train masks that show fewer than two classes.
    """
    source = found.source
    images = {split: len(source.all_images(split)) for split in found.splits}
    train = [p for p in found.facts if p.split == "train" and p.counts is not None and p.size]
    if not train:
        raise _too_few(source, 0)
    totals = found.counts("train")
    shares = dict(zip(source.classes.names, (totals / max(1, totals.sum())).tolist(), strict=True))
    if np.count_nonzero(totals) < 2:
        shown = [name for name, share in shares.items() if share] or ["no class"]
        raise DataError(
            f"dataset '{source.name}': the train masks show {shown[0]} alone, so that there is "
            "nothing to tell apart. Label a second class (also the background counts), or map "
            f"ids with dataset.label_map; see: {source.check_command()}"
        )
    heights, widths = zip(*(p.size for p in train if p.size), strict=True)
    class_widths, halves = _measured(source, train, found.image_size)
    return DataFacts(
        images=images,
        size=(int(np.median(heights)), int(np.median(widths))),
        shares=shares,
        widths=class_widths,
        image_size=found.image_size,
        halves=halves,
        groups=_number_of_groups(source, found),
    )


def _number_of_groups(source: Source, found: Audit) -> int | None:
    if source.config.groups is None and not source.fixes.groups:
        return None
    return len({source.group(pair.name) for pair in found.facts if pair.split != "test"})


def _measured(
    source: Source, train: Sequence[PairFacts], image_size: Sequence[int]
) -> tuple[dict[str, float], float]:
    """The median width of each class's areas, and how much the halves of the images differ."""
    names = source.classes.names
    widths: dict[str, list[float]] = {}
    halves = np.zeros((2, len(names)))
    for index in spread_evenly(len(train), _MASKS_MEASURED):
        pair = train[index]
        assert pair.mask is not None  # its pixels were counted
        ids = source.masks.read(
            read_bytes(pair.mask), str(pair.mask), source.mask_format(pair.image)
        )
        small = resize_mask(ids, *target_size(ids.shape[0], ids.shape[1], image_size))
        for class_id, width in area_widths(small).items():
            if class_id < len(names):
                widths.setdefault(names[class_id], []).append(width)
        middle = small.shape[0] // 2
        for half, rows in enumerate((small[:middle], small[-middle:])):
            halves[half] += np.bincount(rows.ravel(), minlength=len(names))[: len(names)]
    shares = halves / np.maximum(1.0, halves.sum(1, keepdims=True))
    medians = {name: float(np.median(values)) for name, values in widths.items()}
    return medians, float(np.abs(shares[0] - shares[1]).sum() / 2)


def area_widths(ids: NDArray[np.uint8]) -> dict[int, float]:
    """The mean width of the areas of each id, in pixels: twice their area over their outline.

    A strip has two long sides. An id that fills the whole mask has no outline, and is left out.

    >>> mask = np.zeros((10, 10), np.uint8)
    >>> mask[:, 4:6] = 1
    >>> area_widths(mask)[1]
    2.0
    """
    areas = np.bincount(ids.ravel())
    outlines: Counter[int] = Counter()
    for first, second in ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:])):
        is_border = first != second
        for side in (first[is_border], second[is_border]):
            values, counts = np.unique(side, return_counts=True)
            outlines.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return {id: 2.0 * float(areas[id]) / outline for id, outline in outlines.items()}
