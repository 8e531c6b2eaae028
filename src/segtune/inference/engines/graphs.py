"""Export a segmenter as an ONNX or OpenVINO graph: bytes in, class ids out, in fp32 or int8.

The graph takes images (B, 3, H, W) uint8 of any size and returns masks (B, H, W) uint8. It includes
normalisation, padding, resizing of the logits, and argmax.
"""

import copy
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segtune.errors import ConfigError, nearest
from segtune.models.segmentation_model import SegmentationModel

OPSET = 18


@dataclass(frozen=True)
class ExportFormat:
    """A format of exported graphs.

    Attributes:
        libraries: modules that it needs.
        least_agreement: the least share of pixels whose class must equal the segmenter's.
    """

    libraries: tuple[str, ...]
    least_agreement: float


EXPORT_FORMATS = {
    "onnx": ExportFormat(("onnx", "onnxscript", "onnxruntime"), 0.999),
    "openvino": ExportFormat(("onnx", "onnxscript", "openvino"), 0.999),
    "int8": ExportFormat(("onnx", "onnxscript", "onnxruntime"), 0.95),
}


class Graph(nn.Module):
    """Images (B, 3, H, W) uint8 -> class ids (B, H, W) uint8, with the same steps for every size.

    Args:
        confidence: add a second output, the softmax probability of the class, (B, H, W) float32.
    """

    def __init__(self, model: SegmentationModel, confidence: bool = False) -> None:
        super().__init__()
        self.confidence = confidence
        self.net, self.normalize = model.net, model.normalize

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        height, width = image.shape[-2:]
        x = self.normalize(image.float(), always_pad=True)
        logits = F.interpolate(self.net(x), size=x.shape[-2:], mode="bilinear", align_corners=False)
        # crop last: a runtime copies what it crops, and logits are many times larger than ids
        ids = logits.argmax(1).to(torch.uint8)[..., :height, :width]
        if not self.confidence:
            return ids
        confidence = 1.0 / (logits - logits.amax(1, keepdim=True)).exp().sum(1)
        return ids, confidence[..., :height, :width]


def check_installed(form: str) -> None:
    """Check that a format exists and that its libraries are installed.

    Raises:
        ConfigError: with the nearest format, or the extra to install.
    """
    if form not in EXPORT_FORMATS:
        raise ConfigError(f"format={form}: {nearest(form, EXPORT_FORMATS)}")
    for name in EXPORT_FORMATS[form].libraries:
        try:
            importlib.import_module(name)
        except ImportError:
            raise ConfigError(f"{form} needs {name}: pip install 'segtune[export]'.") from None


def is_installed(form: str) -> bool:
    """Whether the libraries of a format are installed; loads none of them."""
    libraries = EXPORT_FORMATS[form].libraries
    return all(importlib.util.find_spec(name) is not None for name in libraries)


def to_onnx(
    model: SegmentationModel, path: Path, size: tuple[int, int], confidence: bool = False
) -> bool:
    """Write an ONNX graph.

    Args:
        size: (H, W) of the images for tracing.
        confidence: add the confidence as a second output; see `Graph`.

    Returns:
        whether the graph takes any size. An architecture may allow only `size`.

    Raises:
        ConfigError: the architecture cannot be exported.
    """
    graph = Graph(copy.deepcopy(model), confidence).cpu().float().eval()
    images = torch.randint(0, 255, (2, 3, *size), dtype=torch.uint8)
    try:
        _trace(graph, images, path, ({0: "batch", 2: "height", 3: "width"},))
    except Exception:  # the exporter raises many types
        pass
    else:
        return True
    try:
        _trace(graph, images[:1], path, None)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"this architecture cannot be exported: {type(error).__name__}: {reason}"
        ) from error
    return False


def _trace(graph: Graph, images: Tensor, path: Path, dynamic_shapes: Any) -> None:
    with (
        warnings.catch_warnings(),
        _pooling_by_sums(),
        redirect_stdout(StringIO()),
        torch.inference_mode(),
    ):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (images,),
            str(path),
            dynamo=True,
            input_names=["image"],
            output_names=["mask", "confidence"] if graph.confidence else ["mask"],
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )


@contextmanager
def _pooling_by_sums() -> Iterator[None]:
    """Replace adaptive pooling while the block runs: ONNX has none for dynamic sizes."""
    original = F.adaptive_avg_pool2d
    F.adaptive_avg_pool2d = pool_by_sums  # type: ignore[assignment]  # torch allows None in a grid
    try:
        yield
    finally:
        F.adaptive_avg_pool2d = original


def pool_by_sums(x: Tensor, grid: int | Sequence[int]) -> Tensor:
    """Compute `adaptive_avg_pool2d` as differences of running sums.

    The cells of an axis of length H go from floor(i H / g) to ceil((i + 1) H / g).

    >>> x = torch.arange(35.0).reshape(1, 1, 5, 7)
    >>> bool(torch.allclose(pool_by_sums(x, 3), F.adaptive_avg_pool2d(x, 3)))
    True
    """
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    for dim, number, pad in ((-2, rows, (0, 0, 1, 0)), (-1, columns, (1, 0))):
        length, cells = x.shape[dim], torch.arange(number, device=x.device)
        sums = F.pad(torch.cumsum(x, dim), pad)
        start, end = (cells * length) // number, -((-(cells + 1) * length) // number)
        width = (end - start).to(x.dtype)
        x = sums.index_select(dim, end) - sums.index_select(dim, start)
        x = x / (width[:, None] if dim == -2 else width)
    return x


def to_openvino(source: Path, path: Path) -> None:
    """Write an ONNX graph as OpenVINO's model.xml and model.bin, in fp32."""
    import openvino

    openvino.save_model(openvino.convert_model(str(source)), str(path), compress_to_fp16=False)


def to_int8(source: Path, path: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    """Write an ONNX graph with int8 convolutions: static, per-channel weights, calibrated ranges.

    Convolutions of the image itself stay in fp32: with three channels, int8 takes twice as long
    (LOG.md).

    Args:
        images: (H, W, 3) uint8 each; they calibrate the ranges of the activations.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.images = iter(images)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self.images, None)
            if image is None:
                return None
            return {"image": np.ascontiguousarray(image.transpose(2, 0, 1)[None])}

    with warnings.catch_warnings(), _without_warnings():
        warnings.simplefilter("ignore")
        quantize_static(
            str(source),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_convolutions_of_the_image(source),
        )


def _convolutions_of_the_image(source: Path) -> list[str]:
    """Return the names of the convolutions with three input channels."""
    import onnx

    graph = onnx.load(source).graph
    channels = {w.name: w.dims[1] for w in graph.initializer if len(w.dims) == 4}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if channels.get(node.input[1]) == 3]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence the log while the block runs: the quantizer gives advice that does not apply."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


class Runtime:
    """An exported graph that runs on the CPU.

    Attributes:
        size: (H, W) of the only images that it takes, one at a time; None if it takes any size.

    Args:
        threads: number of threads; None for as many as torch has.
        precision: f32 or bf16; OpenVINO only.
    """

    def __init__(self, path: Path, threads: int | None = None, precision: str = "f32") -> None:
        threads = threads or torch.get_num_threads()
        if path.suffix == ".xml":
            shape = self._open_openvino(path, threads, precision)
        else:
            shape = self._open_onnx(path, threads)
        self.size = None if None in shape[2:] else (shape[2], shape[3])

    def _open_openvino(self, path: Path, threads: int, precision: str) -> list[Any]:
        check_installed("openvino")
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        self._run: Any = lambda images: list(compiled([images]).values())
        dimensions = compiled.input(0).partial_shape
        return [int(d.to_string()) if d.is_static else None for d in dimensions]

    def _open_onnx(self, path: Path, threads: int) -> list[Any]:
        check_installed("onnx")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._run = lambda images: session.run(None, {"image": images})
        return [d if isinstance(d, int) else None for d in session.get_inputs()[0].shape]

    def masks(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return class ids (B, H, W) of images (B, 3, H, W)."""
        return np.asarray(self._run(np.ascontiguousarray(images))[0], np.uint8)

    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return class ids and confidences, each (B, H, W); the graph must have both outputs."""
        ids, confidence = self._run(np.ascontiguousarray(images))
        # copies: OpenVINO reuses its memory
        return np.array(ids, np.uint8), np.array(confidence, np.float32)
