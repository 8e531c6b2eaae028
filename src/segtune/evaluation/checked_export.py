"""Export a segmenter, compare the export with it on real images, and keep it if both agree."""

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.config.compose import Composed
from segtune.config.schema import RunConfig
from segtune.data.batches.cache import load_split
from segtune.data.batches.decoded import Decoded, shapes_of, spread_evenly
from segtune.data.source.layout import Source
from segtune.data.sources import open_source
from segtune.errors import ConfigError, DataError, StorageError
from segtune.evaluation.evaluate import check_classes
from segtune.inference.engines.graphs import (
    EXPORT_FORMATS,
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
from segtune.runtime.log import Log, silent
from segtune.runtime.strict_json import to_json
from segtune.runtime.temporary import temporary_folder
from segtune.tracking.recorded import dataset_of
from segtune.tracking.registry import is_active, locate
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.store import open_store


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and where to.

    Attributes:
        model: URI or folder of a segmenter.
        format: onnx, openvino or int8 (calibrated on train images).
        output: folder of the export.
        images: highest number of images to calibrate on, and to compare on.
        min_agreement: lowest share of pixels of the same class; by default see `EXPORT_FORMATS`.
        overwrite: replace an earlier export.
    """

    model: str
    format: str
    output: Path
    images: int = 50
    min_agreement: float | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Measured:
    """Results of a segmenter or of its export on the same images.

    Attributes:
        miou: in [0, 1].
        iou: of each class, in [0, 1]; None for a class that no image shows.
        latency_ms: median over the images.
    """

    miou: float
    iou: dict[str, float | None]
    latency_ms: float
    size_mb: float


@dataclass(frozen=True)
class Exported:
    """An export that was kept.

    Attributes:
        agreement: share of pixels for which segmenter and export choose the same class.
        dynamic: the export takes images of any size.
        images: number of images on which both were compared.
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
        """A table for people."""
        original, exported = self.original, self.exported
        rows = [
            f"{'':<22}{'segmenter':>12}{self.format:>12}",
            f"{'mIoU':<22}{100 * original.miou:12.2f}{100 * exported.miou:12.2f}",
        ]
        for name, value in original.iou.items():
            other = exported.iou[name]
            if value is not None and other is not None:
                rows.append(f"  {name[:19]:<20}{100 * value:12.2f}{100 * other:12.2f}")
        rows.append(f"{'latency, ms':<22}{original.latency_ms:12.1f}{exported.latency_ms:12.1f}")
        rows.append(f"{'size, MB':<22}{original.size_mb:12.2f}{exported.size_mb:12.2f}")
        sizes = "any size" if self.dynamic else "one size"
        rows.append(
            f"same class on {self.agreement:.4%} of the pixels of {self.images} images; takes "
            f"{sizes}"
        )
        return [*rows, f"{self.format}: {self.folder}"]


def export_model(composed: Composed, request: ExportRequest, say: Log = silent) -> Exported:
    """Export a segmenter, compare both on the val split, and keep an export that agrees.

    The dataset is the one of the command, else the one that the segmenter's run recorded.

    Raises:
        ConfigError: the format is unknown, a library is missing, the output exists, or the model
            is not a segmenter.
        DataError: there are no images to calibrate or compare on, or the agreement is too low.
    """
    check_installed(request.format)
    _check_output(request)
    store = open_store(composed.config.tracking)
    located = locate(request.model, store)
    segmenter = open_model(located.folder, "cpu", located.manifest_hash)
    if not isinstance(segmenter, Segmenter):
        raise ConfigError(
            f"model={request.model} is no segmenter; labelers and workflows are not exported."
        )
    source = open_source(dataset_of(composed, store, located.run_id, request.model), say)
    check_classes(source, source.classes, segmenter, request.model)
    val = load_split(source, "val", segmenter.image_size, True, composed.config.cache, say)
    calibration: Sequence[NDArray[np.uint8]] = []
    if request.format == "int8":
        calibration = _calibration(source, segmenter, composed.config, request.images, say)
    with temporary_folder() as temporary:
        folder = temporary / request.format
        folder.mkdir()
        say(f"tracing {request.model} (opset {OPSET})")
        height, width = shapes_of(val.images)[0][:2]
        dynamic = _write_graph(segmenter, request.format, folder, (height, width), calibration)
        weights_mb = (located.folder / WEIGHTS).stat().st_size / 1e6
        exported = _compare(segmenter, weights_mb, request, folder, val, dynamic, say)
        _check_agreement(exported, request)
        record = exported.to_json() | {
            "segmenter": file_hash(located.folder / MANIFEST),
            "classes": segmenter.classes.to_json(),
        }
        text = to_json(record, indent=1, ensure_ascii=False)
        (folder / "export.json").write_text(text, encoding="utf-8")
        _move(folder, request.output)
    if located.run_id and is_active(store, located.run_id):
        run = RunWriter(store, located.run_id)
        reports = run.folder / "exports"
        reports.mkdir(parents=True, exist_ok=True)
        (reports / f"{request.format}.json").write_text(to_json(record), encoding="utf-8")
        run.folder_artifact(reports, "exports")
    return exported


def _check_output(request: ExportRequest) -> None:
    output = request.output
    if output.exists() and not request.overwrite:
        raise ConfigError(
            f"output '{output}' exists; choose another folder, or set overwrite=true."
        )
    if output.exists() and not (output / "export.json").is_file():
        raise ConfigError(
            f"output '{output}' is no earlier export (it has no export.json); choose another "
            "folder."
        )


def _calibration(
    source: Source, segmenter: Segmenter, config: RunConfig, images: int, say: Log
) -> Sequence[NDArray[np.uint8]]:
    try:
        train = load_split(source, "train", segmenter.image_size, False, config.cache, say)
    except DataError as error:
        raise DataError(
            f"format=int8 is calibrated on train images, and there are none: {error}"
        ) from None
    return [train.images[index] for index in spread_evenly(len(train), images)]


def _write_graph(
    segmenter: Segmenter,
    format: str,
    folder: Path,
    size: tuple[int, int],
    calibration: Sequence[NDArray[np.uint8]],
) -> bool:
    """Write the graph of a segmenter to a folder; return whether it takes images of any size.

    Args:
        size: (H, W) of the image that is traced.
    """
    graph = folder / "model.onnx"
    dynamic = to_onnx(segmenter.model, graph, size)
    if format == "openvino":
        to_openvino(graph, folder / "model.xml")
        graph.unlink()
    if format == "int8":
        fp32 = graph.rename(folder.parent / "fp32.onnx")
        to_int8(fp32, graph, calibration)
    return dynamic


class _Side:
    """One side of a comparison: its predictions are counted and timed.

    Args:
        predict: turns an image (1, 3, H, W) into class ids (1, H, W), uint8 both.
    """

    def __init__(
        self, predict: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], names: Sequence[str]
    ) -> None:
        self.predict, self.names = predict, names
        self.matrix = torch.zeros(len(names), len(names), dtype=torch.int64)
        self.seconds: list[float] = []

    def ids(self, image: NDArray[np.uint8], truth: torch.Tensor) -> NDArray[np.uint8]:
        """Predict class ids (1, H, W), and count them against a truth (1, h, w)."""
        started = time.perf_counter()
        ids = self.predict(image)
        self.seconds.append(time.perf_counter() - started)
        self.matrix += count_pairs(_resized(ids, truth), truth, len(self.names))
        return ids

    def measured(self, size_mb: float) -> Measured:
        scores = score(self.matrix)
        iou = dict(zip(self.names, scores.iou, strict=True))
        return Measured(scores.miou, iou, 1e3 * statistics.median(self.seconds), size_mb)


def _compare(
    segmenter: Segmenter,
    weights_mb: float,
    request: ExportRequest,
    folder: Path,
    val: Decoded,
    dynamic: bool,
    say: Log,
) -> Exported:
    """Compare the graph in a folder with its segmenter on val images."""

    def segment(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with torch.inference_mode():
            logits = segmenter.model(torch.from_numpy(image))
            ids: NDArray[np.uint8] = logits.max(1).indices.to(torch.uint8).numpy()
        return ids

    names = segmenter.classes.names
    runtime = Runtime(folder / ("model.xml" if request.format == "openvino" else "model.onnx"))
    original, exported = _Side(segment, names), _Side(runtime.masks, names)
    chosen = _comparable_images(val, dynamic, request.images)
    say(f"comparing on {len(chosen)} images")
    agreeing = total = 0
    for index in chosen:
        image = np.ascontiguousarray(val.images[index].transpose(2, 0, 1)[None])
        truth = torch.from_numpy(np.array(val.masks[index]))[None]
        ids = original.ids(image, truth)
        agreeing += int((ids == exported.ids(image, truth)).sum())
        total += ids.size
    return Exported(
        request.format,
        request.output,
        agreeing / total,
        dynamic,
        len(chosen),
        OPSET,
        original.measured(weights_mb),
        exported.measured(sum(file.stat().st_size for file in folder.iterdir()) / 1e6),
    )


def _comparable_images(val: Decoded, dynamic: bool, images: int) -> list[int]:
    """Indices of val images that the graph takes: all, or those of the size that was traced."""
    shapes = shapes_of(val.images)
    fitting = [index for index, shape in enumerate(shapes) if dynamic or shape == shapes[0]]
    return [fitting[index] for index in spread_evenly(len(fitting), images)]


def _resized(ids: NDArray[np.uint8], truth: torch.Tensor) -> torch.Tensor:
    """Resize ids (1, H, W) to the size of a truth (1, h, w), by nearest neighbour."""
    mask = torch.from_numpy(ids)
    if mask.shape == truth.shape:
        return mask
    resized = torch.nn.functional.interpolate(
        mask[:, None], size=truth.shape[1:], mode="nearest-exact"
    )
    return resized[:, 0]


def _check_agreement(exported: Exported, request: ExportRequest) -> None:
    least = request.min_agreement
    if least is None:
        least = EXPORT_FORMATS[request.format].least_agreement
    if exported.agreement < least:
        raise DataError(
            f"the {request.format} export of {request.model} agrees with it on "
            f"{exported.agreement:.4%} of the pixels of {exported.images} images, at least "
            f"{least:.2%} are asked for (min_agreement): nothing was kept."
        )


def _move(folder: Path, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(output, ignore_errors=True)
        shutil.move(str(folder), str(output))
    except OSError as error:
        raise StorageError(f"output '{output}' cannot be written: {error}.") from None
