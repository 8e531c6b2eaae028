"""Evidence: the results of a segmenter on a split, image by image.

Every figure of a report, a gate or a card comes from it. On disk it is `evidence.json` (origin,
names, metrics), `numbers.npz` (sparse confusion matrices, outlines, calibration), and, small and
of the images that reports show, `masks.npz` (predictions) and `disputes.npz` (disputed pixels).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.config.commands import command
from segtune.errors import DataError
from segtune.measure.boundary import boundary_iou
from segtune.measure.calibration import Calibration
from segtune.measure.metrics import Scores, mean_of, score
from segtune.measure.statistics import Interval, bootstrap
from segtune.measure.table import metrics_of, plugin_metrics
from segtune.runtime.archives import check_size
from segtune.runtime.regular import check_regular
from segtune.runtime.strict_json import to_json

SCHEMA_VERSION = 1
_DESCRIPTION, _NUMBERS = "evidence.json", "numbers.npz"
_MASKS, _DISPUTES = "masks.npz", "disputes.npz"
_MAX_BYTES = 2**30  # of the unpacked numbers


@dataclass(frozen=True)
class Origin:
    """The segmenter that was measured, and the data that it was measured on.

    Attributes:
        dataset: its name.
        fingerprint: of the split.
        classes: names in the order of their ids.
        segmenter: sha256 of its manifest, which identifies every byte.
        cost: figures of `models.cost`, and `size_mb` of the weights.
        device: that the latency was measured on.
        duplicates: images of the split that the train split also holds, byte by byte; None if
            nobody compared them.
        made: ISO time of the measurement.
        unit: the thing that the matrices count: `pixel`, or `region` for a labeler.
    """

    dataset: str
    split: str
    fingerprint: str
    classes: tuple[str, ...]
    segmenter: str
    cost: Mapping[str, float]
    device: str
    duplicates: tuple[str, ...] | None
    made: str
    unit: str = "pixel"


@dataclass(frozen=True)
class Evidence:
    """The results of a segmenter on N images.

    Attributes:
        names: of the images.
        groups: of each image, such as its video; None if the images are independent.
        sizes: (N, 2) rows and columns of the stored masks.
        matrices: (N, C, C) int64 confusion matrices; rows are targets.
        outlines: (N, 2, C) int64, see `boundary_counts`.
        calibration: over all counted pixels.
        disputed: (N,) share of the counted pixels where the segmenter predicts another class than
            the mask with a confidence of at least 0.9.
        masks: small predictions, (h, w) uint8 ids, of the images that reports show.
        disputes: small masks, (h, w) uint8, 1 on a disputed pixel, of the images among them that
            have some; earlier versions kept none.
    """

    origin: Origin
    names: tuple[str, ...]
    groups: tuple[str, ...] | None
    sizes: NDArray[np.int64]
    matrices: NDArray[np.int64]
    outlines: NDArray[np.int64]
    calibration: Calibration
    disputed: NDArray[np.float64]
    masks: Mapping[str, NDArray[np.uint8]]
    disputes: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their ids."""
        return self.origin.classes

    @property
    def unit(self) -> str:
        """The thing that the matrices count, `pixel` or `region`."""
        return self.origin.unit

    @cached_property
    def matrix(self) -> NDArray[np.int64]:
        """Confusion matrix of the whole split, (C, C)."""
        return np.asarray(self.matrices.sum(0))

    @cached_property
    def scores(self) -> Scores:
        """Scores of the whole split."""
        return score(torch.from_numpy(self.matrix))

    @cached_property
    def boundary_iou(self) -> tuple[float | None, ...]:
        """Boundary IoU per class, over the whole split."""
        return boundary_iou(self.outlines.sum(0))

    @property
    def units(self) -> int:
        """Number of images, or of groups if there are any, that a resample draws from."""
        return len(set(self.groups or self.names))

    @cached_property
    def interval(self) -> Interval | None:
        """The 95 % interval of the mIoU; None for a single image or group."""
        if self.units < 2:
            return None
        return bootstrap([[self.matrices]], self.groups).interval(0)

    @cached_property
    def image_miou(self) -> NDArray[np.float64]:
        """(N,) mIoU of single images, to rank them; the split's mIoU is not their mean."""
        hit = np.diagonal(self.matrices, axis1=1, axis2=2)
        union = self.matrices.sum(1) + self.matrices.sum(2) - hit
        iou = np.divide(hit, union, out=np.zeros(hit.shape), where=union > 0)
        return np.asarray(iou.sum(1) / np.maximum((union > 0).sum(1), 1))

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """Figures of all registered metrics by the name that they are logged under."""
        return metrics_of(self, prefix)

    def lines(self) -> list[str]:
        """The figures as lines of a terminal: a summary, a table of classes, a note."""
        scores, interval, unit = self.scores, self.interval, self.origin.unit
        spread, note = "", "one group alone gives no interval"
        if interval:
            spread = f" [{interval.low:.4f}, {interval.high:.4f}]"
            note = f"95 % interval of {interval.resamples:,} bootstrap resamples"
        figures = [f"{self.origin.split} mIoU {scores.miou:.4f}{spread}"]
        figures.append(f"{unit} accuracy {scores.pixel_accuracy:.4f}")
        if unit == "pixel":
            figures.append(f"boundary IoU {mean_of(self.boundary_iou):.4f}")
        figures.append(f"calibration error {self.calibration.error:.4f}")
        images = f"{len(self.names)} images" + (f" in {self.units} groups" if self.groups else "")
        rows = zip(self.origin.classes, scores.iou, self.boundary_iou, strict=True)
        return [
            ", ".join(figures) + f"; {images}",
            f"  {'class':<20} IoU     boundary IoU",
            *(f"  {n:<20} {_figure(iou):<7} {_figure(boundary)}" for n, iou, boundary in rows),
            *(f"{name} {value:.4g}" for name, value in plugin_metrics(self).items()),
            note,
        ]

    def save(self, folder: Path) -> None:
        """Write the folder that `load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        image, target, predicted = np.nonzero(self.matrices)
        calibration = self.calibration
        np.savez_compressed(
            folder / _NUMBERS,
            image=image.astype(np.int32),
            target=target.astype(np.uint8),
            predicted=predicted.astype(np.uint8),
            count=self.matrices[image, target, predicted],
            sizes=self.sizes,
            outlines=self.outlines,
            disputed=self.disputed,
            bins=np.stack([calibration.pixels, calibration.confidence, calibration.right]),
        )
        self._save_pictures(folder / _MASKS, self.masks)
        self._save_pictures(folder / _DISPUTES, self.disputes)
        description = {
            "schema_version": SCHEMA_VERSION,
            **asdict(self.origin),
            "names": self.names,
            "groups": self.groups,
            "metrics": self.metrics(),
        }
        text = to_json(description, indent=1, ensure_ascii=False)
        (folder / _DESCRIPTION).write_text(text, encoding="utf-8")

    def _save_pictures(self, path: Path, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        # by number: an image's name may hold characters that a name in an archive must not
        numbers = {name: str(number) for number, name in enumerate(self.names)}
        arrays: dict[str, Any] = {numbers[name]: pixels for name, pixels in pictures.items()}
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, folder: Path) -> "Evidence":
        """Read the folder that `save` wrote; each mask is read when it is used.

        Raises:
            DataError: the folder is damaged, or has another schema version.
        """
        try:
            for name in (_DESCRIPTION, _NUMBERS, _MASKS):
                check_regular(folder / name)
            description: dict[str, Any] = json.loads(
                (folder / _DESCRIPTION).read_text(encoding="utf-8")
            )
            version = description.get("schema_version")
            if version != SCHEMA_VERSION:
                raise DataError(
                    f"evidence '{folder}' has schema version {version!r}, this segtune reads "
                    f"{SCHEMA_VERSION}. Measure again: {command('evaluate', 'RUN')}"
                )
            with ZipFile(folder / _NUMBERS) as archive:
                check_size(archive, _MAX_BYTES)
            with np.load(folder / _NUMBERS) as file:
                numbers = dict(file)
            if not all(isinstance(array, np.ndarray) for array in numbers.values()):
                raise TypeError(f"{_NUMBERS} holds something else than arrays")
            return _assembled(description, numbers, folder)
        except DataError:
            raise
        except Exception as error:  # a damaged file may raise anything
            raise DataError(
                f"evidence '{folder}' cannot be read ({type(error).__name__}: {error}). Measure "
                f"again: {command('evaluate', 'RUN')}"
            ) from None


def _assembled(
    description: Mapping[str, Any], numbers: Mapping[str, NDArray[Any]], folder: Path
) -> Evidence:
    names, classes = tuple(description["names"]), tuple(description["classes"])
    groups, duplicates = description["groups"], description["duplicates"]
    keys = ("dataset", "split", "fingerprint", "segmenter", "cost", "device", "made")
    texts = [description[key] for key in keys if key != "cost"]
    texts += [*names, *classes, *(groups or ()), *(duplicates or ())]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name in it is no text")
    origin = Origin(
        **{key: description[key] for key in keys},
        classes=classes,
        duplicates=None if duplicates is None else tuple(duplicates),
        unit=description.get("unit", "pixel"),
    )
    matrices = np.zeros((len(names), len(classes), len(classes)), np.int64)
    matrices[numbers["image"], numbers["target"], numbers["predicted"]] = numbers["count"]
    pixels, confidence, right = numbers["bins"]
    return Evidence(
        origin,
        names,
        tuple(groups) if groups else None,
        numbers["sizes"],
        matrices,
        numbers["outlines"],
        Calibration(pixels.astype(np.int64), confidence, right.astype(np.int64)),
        numbers["disputed"],
        _Pictures(folder / _MASKS, names),
        _Pictures(folder / _DISPUTES, names) if (folder / _DISPUTES).exists() else {},
    )


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


class _Pictures(Mapping[str, NDArray[np.uint8]]):
    """Masks by image name, read one by one."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self._path = path
        with np.load(path) as file:
            self._keys = {names[int(key)]: key for key in file.files}

    def __getitem__(self, name: str) -> NDArray[np.uint8]:
        with np.load(self._path) as file:
            return np.asarray(file[self._keys[name]])

    def __iter__(self) -> Any:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
