"""Exports: a segmenter as an ONNX or OpenVINO graph, bytes in and class ids out, in full precision or int8.

The graph takes images (B, 3, H, W) uint8 of any size and gives masks (B, H, W) uint8; normalisation, padding, resizing
of the logits and argmax are inside.
"""

import copy
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
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

FORMATS = ("onnx", "openvino", "int8")
OPSET = 18
_NEEDS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "int8": ("onnx", "onnxscript", "onnxruntime"),
}


class Graph(nn.Module):
    """Images (B, 3, H, W) uint8 -> class ids (B, H, W) uint8, the same whatever the size: it always pads.

    Args:
        confidence: gives the softmax probability of the chosen class, (B, H, W) float32, as a second output.
    """

    def __init__(self, model: SegmentationModel, confidence: bool = False) -> None:
        super().__init__()
        self.confidence = confidence
        self.net, self.normalize = model.net, model.normalize

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        height, width = image.shape[-2:]
        x = self.normalize(image.float(), always_pad=True)
        logits = F.interpolate(self.net(x), size=x.shape[-2:], mode="bilinear", align_corners=False)
        # cut last: a runtime copies what is cut, even where nothing is, and of logits that is many times the bytes
        ids = logits.argmax(1).to(torch.uint8)[..., :height, :width]
        if not self.confidence:
            return ids
        return ids, (1.0 / (logits - logits.amax(1, keepdim=True)).exp().sum(1))[
            ..., :height, :width
        ]


def check_installed(form: str) -> None:
    """Tells of a format that is none, or whose libraries are not installed.

    Raises:
        ConfigError: with the nearest format, or the extra to install.
    """
    if form not in FORMATS:
        raise ConfigError(f"format={form}: {nearest(form, FORMATS)}")
    for name in _NEEDS[form]:
        try:
            importlib.import_module(name)
        except ImportError:
            raise ConfigError(f"{form} needs {name}: pip install 'segtune[export]'.") from None


def is_installed(form: str) -> bool:
    """Whether a format's libraries are there; none is loaded."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDS[form])


def to_onnx(
    model: SegmentationModel, path: Path, size: tuple[int, int], confidence: bool = False
) -> bool:
    """Writes the graph; whether it takes any size (else only `size`, where the architecture allows no other).

    Args:
        size: (H, W) of the images that it is traced with.
        confidence: as a second output; see `Graph`.
    """
    graph = Graph(copy.deepcopy(model), confidence).cpu().float().eval()
    image = torch.randint(0, 255, (2, 3, *size), dtype=torch.uint8)
    for shapes in (({0: "batch", 2: "height", 3: "width"},), None):
        try:
            _trace(graph, image if shapes else image[:1], path, shapes)
            return shapes is not None
        except Exception:  # the exporter raises whatever its passes trip over
            if shapes is None:
                raise
    raise AssertionError("unreachable")


def _trace(graph: Graph, image: Tensor, path: Path, shapes: Any) -> None:
    outputs = ["mask", "confidence"] if graph.confidence else ["mask"]
    names: dict[str, Any] = {"input_names": ["image"], "output_names": outputs}
    with (
        warnings.catch_warnings(),
        _pooled_by_sums(),
        redirect_stdout(StringIO()),
        torch.inference_mode(),
    ):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph, (image,), str(path), dynamo=True, dynamic_shapes=shapes, opset_version=OPSET, external_data=False,
            verbose=False, **names,
        )  # fmt: skip


@contextmanager
def _pooled_by_sums() -> Iterator[None]:
    """Adaptive pooling by differences of running sums, for ONNX has none for sizes that are not known beforehand."""
    own = F.adaptive_avg_pool2d
    F.adaptive_avg_pool2d = pool_by_sums  # type: ignore[assignment]  # torch allows None in a grid
    try:
        yield
    finally:
        F.adaptive_avg_pool2d = own


def pool_by_sums(x: Tensor, grid: int | Sequence[int]) -> Tensor:
    """What `adaptive_avg_pool2d` gives: means over cells floor(i H / g) to ceil((i + 1) H / g) of each axis.

    >>> x = torch.arange(35.0).reshape(1, 1, 5, 7)
    >>> bool(torch.allclose(pool_by_sums(x, 3), F.adaptive_avg_pool2d(x, 3)))
    True
    """
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    for dim, number, pad in ((-2, rows, (0, 0, 1, 0)), (-1, columns, (1, 0))):
        length, place = x.shape[dim], torch.arange(number, device=x.device)
        sums = F.pad(torch.cumsum(x, dim), pad)
        start, end = (place * length) // number, -((-(place + 1) * length) // number)
        width = (end - start).to(x.dtype)
        x = sums.index_select(dim, end) - sums.index_select(dim, start)
        x = x / (width[:, None] if dim == -2 else width)
    return x


def to_openvino(source: Path, path: Path) -> None:
    """Writes an ONNX graph as OpenVINO's model.xml and model.bin, in fp32."""
    import openvino

    openvino.save_model(openvino.convert_model(str(source)), str(path), compress_to_fp16=False)


def to_int8(source: Path, path: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    """Writes an ONNX graph with its convolutions in int8: static, weights per channel, activations by calibration.

    Those that see the image itself stay in fp32: of three channels int8 takes twice as long (LOG.md).

    Args:
        images: each (H, W, 3) uint8, what the activations' ranges are measured on.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.rows = iter(images)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self.rows, None)
            return (
                None
                if image is None
                else {"image": np.ascontiguousarray(image.transpose(2, 0, 1)[None])}
            )

    graph = onnx.load(source).graph
    channels = {
        weight.name: weight.dims[1] for weight in graph.initializer if len(weight.dims) == 4
    }
    first = [
        node.name
        for node in graph.node
        if node.op_type == "Conv" and channels.get(node.input[1]) == 3
    ]
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        quantize_static(
            str(source), str(path), Reader(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["Conv"],
            nodes_to_exclude=first,
        )  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps advice that nobody can follow off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class Runtime:
    """An exported graph, ready to run on the CPU.

    Attributes:
        size: (H, W) of the only images that it takes, one at a time; None where it takes any.

    Args:
        threads: of the runtime; None for as many as torch has.
        precision: f32 or bf16, of OpenVINO alone.
    """

    def __init__(self, path: Path, threads: int | None = None, precision: str = "f32") -> None:
        threads = threads or torch.get_num_threads()
        if path.suffix == ".xml":
            check_installed("openvino")
            import openvino

            settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
            self._compiled = openvino.Core().compile_model(str(path), "CPU", settings)
            shape = [
                int(d.to_string()) if d.is_static else None
                for d in self._compiled.input(0).partial_shape
            ]
            self._run: Any = lambda images: list(self._compiled([images]).values())
        else:
            check_installed("onnx")
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            shape = [d if isinstance(d, int) else None for d in session.get_inputs()[0].shape]
            self._run = lambda images: session.run(None, {"image": images})
        self.size = None if None in shape[2:] else (shape[2], shape[3])

    def masks(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Class ids (B, H, W) of images (B, 3, H, W)."""
        return np.asarray(self._run(np.ascontiguousarray(images))[0], np.uint8)

    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Class ids and confidences, each (B, H, W), of a graph that was written with both."""
        ids, sure = self._run(np.ascontiguousarray(images))
        return np.array(ids, np.uint8), np.array(
            sure, np.float32
        )  # copies: OpenVINO uses its memory again
