"""Evidence: what a segmenter did on a split, image by image. Every figure of a report, a gate or a card rests on it.

On disk it is `evidence.json` (what and when), `numbers.npz` (sparse confusion matrices, outlines, calibration) and
`masks.npz` (small predictions of the images that are shown).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.config.commands import command
from segtune.errors import DataError
from segtune.measure.boundary import boundary_iou
from segtune.measure.calibration import Calibration
from segtune.measure.metrics import Scores, mean_of, score
from segtune.measure.statistics import Interval, bootstrap
from segtune.runtime.strict_json import to_json

SCHEMA_VERSION = 1
_DESCRIPTION, _NUMBERS, _MASKS = "evidence.json", "numbers.npz", "masks.npz"


@dataclass(frozen=True)
class Origin:
    """What was measured on what.

    Attributes:
        dataset: its name.
        fingerprint: of the split.
        classes: names, in order of their ids.
        segmenter: sha256 of its manifest: names it to the byte.
        cost: figures of `models.cost`, and `size_mb` of the weights.
        device: that the latency was taken on.
        duplicates: images of the split whose bytes lie in the train split too; None where that was not looked at.
        made: ISO time.
        unit: what the matrices count: `pixel`, or `region` for a labeler.
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
    """What a segmenter did on N images.

    Attributes:
        names: of the images.
        groups: of each image, such as its video; None where images stand alone.
        sizes: (N, 2) rows and columns of the stored masks.
        matrices: (N, C, C) int64 confusion matrices; rows are targets.
        outlines: (N, 2, C) int64, see `boundary_counts`.
        calibration: over all counted pixels.
        disputed: (N,) share of the counted pixels at which it is sure (0.9 and more) of another class than the truth.
        masks: small predictions, (h, w) uint8 ids, of the images that are shown.
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

    @cached_property
    def scores(self) -> Scores:
        """Of the whole split."""
        return score(torch.from_numpy(self.matrices.sum(0)))

    @cached_property
    def boundary_iou(self) -> tuple[float | None, ...]:
        """Per class, over the whole split."""
        return boundary_iou(self.outlines.sum(0))

    @property
    def units(self) -> int:
        """How many images, or groups where there are any, can be drawn."""
        return len(set(self.groups or self.names))

    @cached_property
    def interval(self) -> Interval | None:
        """Of the mIoU, at 95 %; None where a single image, or a single group, tells nothing of the spread."""
        return bootstrap([[self.matrices]], self.groups).interval(0) if self.units > 1 else None

    @cached_property
    def image_miou(self) -> NDArray[np.float64]:
        """(N,) mIoU of single images, to rank them by; it is not what the split's mIoU is the mean of."""
        hit = np.diagonal(self.matrices, axis1=1, axis2=2)
        union = self.matrices.sum(1) + self.matrices.sum(2) - hit
        iou = np.divide(hit, union, out=np.zeros(hit.shape), where=union > 0)
        return np.asarray(iou.sum(1) / np.maximum((union > 0).sum(1), 1))

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """All figures under their logged names; absent classes are left out, regions have no outlines of their own."""
        named = self.scores.named(self.origin.classes, prefix, self.origin.unit)
        named |= (
            {f"{prefix}boundary_iou": mean_of(self.boundary_iou)}
            if self.origin.unit == "pixel"
            else {}
        )
        return named | {f"{prefix}ece": self.calibration.error}

    def lines(self) -> list[str]:
        """For people."""
        scores, interval, split = self.scores, self.interval, self.origin.split
        spread = f" [{interval.low:.4f}, {interval.high:.4f}]" if interval else ""
        images = f"{len(self.names)} images" + (f" in {self.units} groups" if self.groups else "")
        unit = self.origin.unit
        outlines = f"boundary IoU {mean_of(self.boundary_iou):.4f}, " if unit == "pixel" else ""
        rows = zip(self.origin.classes, scores.iou, self.boundary_iou, strict=True)
        cells = [(n, *("n/a" if v is None else f"{v:.4f}" for v in values)) for n, *values in rows]
        how = (
            "the interval is of 10,000 bootstrap resamples, 95 %"
            if interval
            else "one group alone gives no interval"
        )
        return [
            f"{split} mIoU {scores.miou:.4f}{spread}, {unit} accuracy {scores.pixel_accuracy:.4f}, {outlines}"
            f"calibration error {self.calibration.error:.4f}; {images}",
            f"  {'class':<20} IoU     boundary IoU",
            *(f"  {n:<20} {iou:<7} {outline}" for n, iou, outline in cells),
            how,
        ]

    def save(self, folder: Path) -> None:
        """Writes the folder that `load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        image, target, predicted = np.nonzero(self.matrices)
        np.savez_compressed(
            folder / _NUMBERS, image=image.astype(np.int32), target=target.astype(np.uint8),
            predicted=predicted.astype(np.uint8), count=self.matrices[image, target, predicted],
            sizes=self.sizes, outlines=self.outlines, disputed=self.disputed,
            bins=np.stack([self.calibration.pixels, self.calibration.confidence, self.calibration.right]),
        )  # fmt: skip
        # names may hold what a member of an archive must not
        np.savez_compressed(
            folder / _MASKS, **{str(self.names.index(n)): m for n, m in self.masks.items()}
        )  # type: ignore[arg-type]  # arrays
        described = {"schema_version": SCHEMA_VERSION, **asdict(self.origin), "names": self.names}
        described |= {"groups": self.groups, "metrics": self.metrics()}
        (folder / _DESCRIPTION).write_text(
            to_json(described, indent=1, ensure_ascii=False), encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> "Evidence":
        """Reads what `save` wrote; the masks only when they are asked for.

        Raises:
            DataError: damaged, or of another schema version.
        """
        try:
            told: dict[str, Any] = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
            if told.get("schema_version") != SCHEMA_VERSION:
                raise DataError(
                    f"evidence '{folder}' has schema version {told.get('schema_version')!r}, this segtune reads "
                    f"{SCHEMA_VERSION}. Measure again: {command('evaluate', 'RUN')}"
                )
            names, classes = tuple(told["names"]), tuple(told["classes"])
            with np.load(folder / _NUMBERS) as kept:
                numbers = dict(kept)
            matrices = np.zeros((len(names), len(classes), len(classes)), np.int64)
            matrices[numbers["image"], numbers["target"], numbers["predicted"]] = numbers["count"]
            pixels, confidence, right = numbers["bins"]
            duplicates = told["duplicates"]
            origin = Origin(
                **{k: told[k] for k in ("dataset", "split", "fingerprint", "segmenter", "cost", "device", "made")},
                classes=classes, duplicates=None if duplicates is None else tuple(duplicates),
                unit=told.get("unit", "pixel"),
            )  # fmt: skip
            return cls(
                origin, names, tuple(told["groups"]) if told["groups"] else None, numbers["sizes"], matrices,
                numbers["outlines"], Calibration(pixels.astype(np.int64), confidence, right.astype(np.int64)),
                numbers["disputed"], _Masks(folder / _MASKS, names),
            )  # fmt: skip
        except (OSError, KeyError, ValueError, IndexError, TypeError) as error:
            raise DataError(
                f"evidence '{folder}' cannot be read ({type(error).__name__}: {error}). Measure again: "
                f"{command('evaluate', 'RUN')}"
            ) from None


class _Masks(Mapping[str, NDArray[np.uint8]]):
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
