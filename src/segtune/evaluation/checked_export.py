"""Exports a segmenter and compares it, on real images, with what it was made from; beyond a limit nothing is kept."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.config.compose import Composed
from segtune.config.schema import RunConfig
from segtune.data.batches.cache import load_split
from segtune.data.batches.decoded import Decoded, shapes_of
from segtune.data.sources import open_source
from segtune.errors import ConfigError, DataError, StorageError
from segtune.inference.engines.graphs import (
    OPSET,
    Runtime,
    check_installed,
    to_int8,
    to_onnx,
    to_openvino,
)
from segtune.inference.loading import open_model
from segtune.inference.segmenter import Segmenter
from segtune.measure.metrics import count_pairs, score
from segtune.models.folder import MANIFEST, WEIGHTS, file_hash
from segtune.runtime.log import Log
from segtune.runtime.strict_json import to_json
from segtune.tracking.recorded import dataset_of
from segtune.tracking.registry import is_active, locate
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.store import open_store

LIMITS = {"onnx": 0.999, "openvino": 0.999, "int8": 0.95}
"""Least share of the pixels on which an export agrees with the segmenter, unless `min_agreement` says otherwise."""


@dataclass(frozen=True)
class Measured:
    """A segmenter or an export of it on the same images: points of mIoU, milliseconds an image, megabytes."""

    miou: float
    iou: dict[str, float | None]
    latency_ms: float
    size_mb: float


@dataclass(frozen=True)
class Exported:
    """An export that was kept.

    Attributes:
        agreement: share of the pixels on which both choose the same class.
        dynamic: whether it takes images of any size.
        images: how many it was compared on.
    """

    format: str
    folder: Path
    agreement: float
    dynamic: bool
    images: int
    opset: int
    original: Measured
    exported: Measured

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **asdict(self),
            "folder": str(self.folder),
            "precision": "int8" if self.format == "int8" else "fp32",
        }

    def lines(self) -> list[str]:
        """For people."""
        a, b = self.original, self.exported
        rows = [f"{'':<22}{'segmenter':>12}{self.format:>12}"]
        rows += [f"{'mIoU':<22}{100 * a.miou:12.2f}{100 * b.miou:12.2f}"]
        for name, value in a.iou.items():
            other = b.iou[name]
            if value is not None and other is not None:
                rows.append(f"  {name[:19]:<20}{100 * value:12.2f}{100 * other:12.2f}")
        rows += [f"{'latency, ms':<22}{a.latency_ms:12.1f}{b.latency_ms:12.1f}"]
        rows += [f"{'size, MB':<22}{a.size_mb:12.2f}{b.size_mb:12.2f}"]
        sizes = "any size" if self.dynamic else "one size"
        rows.append(
            f"same class on {self.agreement:.4%} of the pixels of {self.images} images; takes {sizes}"
        )
        return [*rows, f"{self.format}: {self.folder}"]


def export_model(
    composed: Composed,
    model: str,
    form: str,
    output: Path,
    images: int = 50,
    min_agreement: float | None = None,
    overwrite: bool = False,
    say: Log = lambda _: None,
) -> Exported:
    """Exports, compares on the val split, and keeps what passes.

    The dataset is the one that the command names, else the one that the segmenter's run recorded.

    Args:
        form: onnx, openvino or int8 (calibrated on train images).
        images: how many to calibrate and to compare on, at most.

    Raises:
        ConfigError: an unknown format, a library that is missing, an output that exists, or another kind of model.
        DataError: no images to calibrate on or to compare with, or less agreement than is asked for.
    """
    check_installed(form)
    if output.exists() and not overwrite:
        raise ConfigError(
            f"output '{output}' exists; choose another folder, or set overwrite=true."
        )
    if output.exists() and not (output / "export.json").is_file():
        raise ConfigError(
            f"output '{output}' is no earlier export (it has no export.json); choose another folder."
        )
    config, store = composed.config, open_store(composed.config.tracking)
    located = locate(model, store)
    segmenter = open_model(located.folder, "cpu", located.manifest_hash)
    if not isinstance(segmenter, Segmenter):
        raise ConfigError(
            f"model={model} is no segmenter; labelers and workflows are not exported."
        )
    source = open_source(dataset_of(composed, store, located.run_id, model), say)
    if source.classes.names != segmenter.classes.names:
        raise ConfigError(
            f"dataset '{source.name}' has the classes {', '.join(source.classes.names)}, but {model} was trained on "
            f"{', '.join(segmenter.classes.names)}. Choose the dataset that it was trained on."
        )
    val = load_split(source, "val", segmenter.image_size, True, config.cache, say)
    calibration = _calibration(source, segmenter, config, images, say) if form == "int8" else []
    with tempfile.TemporaryDirectory(prefix="segtune-export-") as room:
        folder = Path(room) / form
        folder.mkdir()
        height, width = shapes_of(val.images)[0][:2]
        graph = folder / "model.onnx"
        say(f"tracing {model} (opset {OPSET})")
        dynamic = to_onnx(segmenter.model, graph, (height, width))
        if form == "openvino":
            to_openvino(graph, folder / "model.xml")
            graph.unlink()
        if form == "int8":
            graph = graph.rename(Path(room) / "fp32.onnx")
            to_int8(graph, folder / "model.onnx", calibration)
        found = _compare(segmenter, located.folder, form, folder, val, images, dynamic, output, say)
        least = LIMITS[form] if min_agreement is None else min_agreement
        if found.agreement < least:
            raise DataError(
                f"the {form} export of {model} agrees with it on {found.agreement:.4%} of the pixels of {found.images} "
                f"images, at least {least:.2%} are asked for (min_agreement): nothing was kept."
            )
        told = found.to_json() | {"segmenter": file_hash(located.folder / MANIFEST)}
        told["classes"] = segmenter.classes.to_json()
        (folder / "export.json").write_text(
            to_json(told, indent=1, ensure_ascii=False), encoding="utf-8"
        )
        _put(folder, output)
    if located.run_id and is_active(store, located.run_id):
        run = RunWriter(store, located.run_id)
        kept = run.folder / "exports"
        kept.mkdir(parents=True, exist_ok=True)
        (kept / f"{form}.json").write_text(to_json(told), encoding="utf-8")
        run.folder_artifact(kept, "exports")
    return found


def _put(folder: Path, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(output, ignore_errors=True)
        shutil.move(str(folder), str(output))
    except OSError as error:
        raise StorageError(f"output '{output}' cannot be written: {error}.") from None


def _calibration(
    source: Any, segmenter: Segmenter, config: RunConfig, images: int, say: Log
) -> Sequence[NDArray[np.uint8]]:
    try:
        train = load_split(source, "train", segmenter.image_size, False, config.cache, say)
    except DataError as error:
        raise DataError(
            f"format=int8 is calibrated on train images, and there are none: {error}"
        ) from None
    chosen = [i * len(train) // min(images, len(train)) for i in range(min(images, len(train)))]
    return [train.images[i] for i in chosen]


def _compare(
    segmenter: Segmenter, folder: Path, form: str, target: Path, val: Decoded, images: int, dynamic: bool,
    output: Path, say: Log,
) -> Exported:  # fmt: skip
    file = target / ("model.xml" if form == "openvino" else "model.onnx")
    runtime, names = Runtime(file), segmenter.classes.names
    one_size = [
        i for i, s in enumerate(shapes_of(val.images)) if dynamic or s == shapes_of(val.images)[0]
    ]
    chosen = [
        one_size[i * len(one_size) // min(images, len(one_size))]
        for i in range(min(images, len(one_size)))
    ]
    say(f"comparing on {len(chosen)} images")
    matrices = torch.zeros(2, len(names), len(names), dtype=torch.int64)
    same = total = 0
    times: tuple[list[float], list[float]] = ([], [])
    for index in chosen:
        image = np.ascontiguousarray(val.images[index].transpose(2, 0, 1)[None])
        tensor = torch.from_numpy(image)
        started = time.perf_counter()
        with torch.inference_mode():
            own = segmenter.model(tensor).max(1).indices.to(torch.uint8).numpy()
        middle = time.perf_counter()
        other = runtime.masks(image)
        times[0].append(middle - started)
        times[1].append(time.perf_counter() - middle)
        same, total = same + int((own == other).sum()), total + own.size
        truth = torch.from_numpy(np.array(val.masks[index]))[None]
        for place, ids in enumerate((own, other)):
            matrices[place] += count_pairs(_at(ids, truth), truth, len(names))
    sizes = (folder / WEIGHTS).stat().st_size, sum(f.stat().st_size for f in target.iterdir())
    both = []
    for place in (0, 1):
        found = score(matrices[place])
        iou = dict(zip(names, found.iou, strict=True))
        both.append(
            Measured(found.miou, iou, 1e3 * statistics.median(times[place]), sizes[place] / 1e6)
        )
    return Exported(form, output, same / total, dynamic, len(chosen), OPSET, both[0], both[1])


def _at(ids: NDArray[np.uint8], truth: torch.Tensor) -> torch.Tensor:
    """The mask at the size of the stored truth, by nearest neighbour."""
    found = torch.from_numpy(ids)
    if found.shape != truth.shape:
        found = torch.nn.functional.interpolate(
            found[:, None], size=truth.shape[1:], mode="nearest-exact"
        )[:, 0]
    return found
