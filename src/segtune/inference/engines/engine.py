"""Engines: eager PyTorch in fp32, folded bf16, or a graph in another runtime.

`auto` measures the available engines on the first images of each size. It takes the fastest one
whose results agree with eager fp32.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segtune.config.part_options import checked_options
from segtune.data.source.files import cache_dir
from segtune.errors import ConfigError
from segtune.inference.decisions import Decided, decide
from segtune.inference.engines.bf16 import MARGIN, gains_from_bf16, in_bf16
from segtune.inference.engines.graphs import (
    Runtime,
    check_installed,
    is_installed,
    to_onnx,
    to_openvino,
)
from segtune.models.folder import state_hash
from segtune.models.probe import add_result, read_results
from segtune.models.segmentation_model import SegmentationModel
from segtune.models.timing import call_seconds, fastest, fastest_in_turns
from segtune.plugins.registry import Part, find
from segtune.runtime.cache_store import CacheStore
from segtune.runtime.log import Log, silent

LEAST_AGREEMENT = 0.995
_ROUNDS = 3
_PAUSE = 0.1  # seconds


class Eager:
    """PyTorch without a graph."""

    def __init__(self, model: SegmentationModel, name: str = "eager") -> None:
        self.model, self.name = model, name

    def coarse(self, image: Tensor) -> Tensor:
        """Return the net's own logits of uint8 images (B, 3, H, W), at a lower resolution.

        See `SegmentationModel.coarse`.
        """
        return self.model.coarse(image)

    def logits(self, image: Tensor) -> Tensor:
        """Return logits (B, C, H, W) of uint8 images (B, 3, H, W)."""
        return self.model.at_size(self.coarse(image), image.shape[-2:])

    def decide(self, image: Tensor, size: Sequence[int]) -> list[Decided]:
        """Return class ids and softmax probabilities at `size` (H, W) of uint8 (B, 3, h, w)."""
        image_size = tuple(image.shape[-2:])
        if tuple(size) == image_size:
            return decide(self.coarse(image), size, self.model.padded(image_size))
        return decide(self.logits(image), size)


class GraphEngine(Eager):
    """An ONNX Runtime or OpenVINO graph for ids and probabilities; PyTorch computes the rest.

    Args:
        torch_model: the model for PyTorch, in bf16 if that is faster here.
        kind: onnx or openvino.
        size: (H, W) of the traced graph. If the architecture allows no other size, PyTorch
            computes images of other sizes.
    """

    def __init__(
        self,
        model: SegmentationModel,
        torch_model: SegmentationModel,
        kind: str,
        size: tuple[int, int],
    ) -> None:
        super().__init__(torch_model, kind)
        check_installed(kind)
        precision = "bf16" if gains_from_bf16() else "f32"
        self._runtime = Runtime(_cached_graph(model, kind, size), precision=precision)

    def decide(self, image: Tensor, size: Sequence[int]) -> list[Decided]:
        fixed_size, image_size = self._runtime.size, tuple(image.shape[-2:])
        if tuple(size) != image_size or fixed_size not in (None, image_size):
            return super().decide(image, size)
        pixels = image.cpu().numpy()
        batches = [pixels] if fixed_size is None else np.split(pixels, len(pixels))
        results: list[Decided] = []
        for batch in batches:
            results += zip(*self._runtime.both(batch), strict=True)
        return results


class Fastest(Eager):
    """The fastest engine for each size, measured at the first image and cached for these weights.

    Sizes whose number of pixels rounds to one power of two count as one, since a folder may hold
    hundreds of sizes.

    Args:
        graphs: for decisions at the image's size, also try the installed ones of ONNX Runtime and
            OpenVINO. Tracing takes seconds, which pays for many images.
        cache: JSON file of earlier measurements.
        say: prints the choice.
    """

    def __init__(
        self,
        model: SegmentationModel,
        graphs: bool = False,
        cache: Path | None = None,
        say: Log = silent,
    ) -> None:
        super().__init__(model, "auto")
        self.graphs, self.say = graphs, say
        self.cache = cache or cache_dir() / "engines.json"
        self._engines: dict[str, Eager] = {"eager": Eager(model)}
        self._choices: dict[tuple[int, bool], Eager] = {}

    def coarse(self, image: Tensor) -> Tensor:
        return self.engine(image, graphs=False).coarse(image)  # a graph returns no logits

    def decide(self, image: Tensor, size: Sequence[int]) -> list[Decided]:
        graphs = self.graphs and tuple(size) == tuple(image.shape[-2:])
        return self.engine(image, graphs).decide(image, size)

    def engine(self, image: Tensor, graphs: bool) -> Eager:
        """Return the engine for images of about this size."""
        key = (_log_pixels(image), graphs)
        if key not in self._choices:
            self._choices[key] = self._choose(image[:1], graphs)
        return self._choices[key]

    def _choose(self, image: Tensor, graphs: bool) -> Eager:
        if image.device.type != "cpu":
            return self._engines["eager"]  # training has measured and chosen a GPU's precision
        names = ["eager", "bf16"] if gains_from_bf16() else ["eager"]
        names += [n for n in ("onnx", "openvino") if graphs and is_installed(n)]
        key = _cache_key(self.model, image, names)
        result = read_results(self.cache).get(key)
        if result is None:
            result = self._measure(image, names)
            add_result(self.cache, key, result)
        return self._engine(str(result["engine"]), image)

    def _engine(self, name: str, image: Tensor) -> Eager:
        if name not in self._engines:
            size = (image.shape[-2], image.shape[-1])
            self._engines[name] = make_engine(self.model, name, size)
        return self._engines[name]

    def _measure(self, image: Tensor, names: Sequence[str]) -> dict[str, Any]:
        engines = {name: self._engine(name, image) for name in names}
        ids = {n: e.decide(image, image.shape[-2:])[0][0] for n, e in engines.items()}
        seconds = _seconds_in_turns(engines, image)
        rows: list[dict[str, Any]] = []
        for name in names:
            agreement = float(np.mean(ids[name] == ids["eager"]))
            rows.append(
                {
                    "engine": name,
                    "ms": round(1e3 * seconds[name], 2),
                    "agreement": round(agreement, 5),
                }
            )
        eager = rows[0]
        best = min(
            (row for row in rows if row["agreement"] >= LEAST_AGREEMENT), key=lambda row: row["ms"]
        )
        choice = best if best["ms"] < MARGIN * eager["ms"] else eager
        times = ", ".join(f"{row['engine']} {row['ms']} ms" for row in rows)
        self.say(f"computes with {choice['engine']} ({times} an image)")
        return {**choice, "measured": rows}


def _seconds_in_turns(engines: Mapping[str, Eager], image: Tensor) -> dict[str, float]:
    """Return the seconds of each engine's fastest call at the image's size."""

    def turn(engine: Eager) -> float:
        # the first call wakes the threads of the runtime and is not counted
        decide = partial(engine.decide, image, image.shape[-2:])
        return fastest(lambda: call_seconds(decide, image.device), calls=2)

    turns = {name: partial(turn, engine) for name, engine in engines.items()}
    return fastest_in_turns(turns, _ROUNDS, pause=_PAUSE)


def make_engine(
    model: SegmentationModel,
    name: str,
    size: tuple[int, int],
    graphs: bool = False,
    say: Log = silent,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Eager:
    """Return an engine by name.

    Args:
        size: (H, W) of typical images.
        graphs: let `auto` try graphs, too.
        options: of the engine.

    Raises:
        ConfigError: an unknown name or option, or an engine whose libraries are not installed.
    """
    part, checked = chosen_engine(name, options)
    context = {"graphs": graphs, "say": say}
    declared = {key: value for key, value in context.items() if part.declares(key)}
    engine = part.load()(model, size, **declared, **checked)
    if not isinstance(engine, Eager):
        raise ConfigError(
            f"engine '{name}' returns a {type(engine).__name__}; expected is a subclass of "
            "segtune.inference.engines.engine.Eager."
        )
    return engine


def chosen_engine(name: str, options: Mapping[str, Any]) -> tuple[Part, dict[str, Any]]:
    """Return an engine's part and all its options, with the defaults of those not given.

    Raises:
        ConfigError: an unknown name or option.
    """
    part = find("engine", name, "runtime")
    return part, checked_options(part, options, "runtime_options")


def fastest_engine(
    model: SegmentationModel, size: tuple[int, int], graphs: bool, say: Log
) -> Eager:
    """The engine that measures fastest for each size of images."""
    return Fastest(model, graphs, say=say)


def eager(model: SegmentationModel, size: tuple[int, int]) -> Eager:
    """PyTorch in fp32."""
    return Eager(model)


def folded_bf16(model: SegmentationModel, size: tuple[int, int]) -> Eager:
    """PyTorch in bf16, with batch norms folded into the convolutions."""
    return Eager(in_bf16(model), "bf16")


def onnx_graph(model: SegmentationModel, size: tuple[int, int]) -> Eager:
    """A graph in ONNX Runtime."""
    return _graph(model, size, "onnx")


def openvino_graph(model: SegmentationModel, size: tuple[int, int]) -> Eager:
    """A graph in OpenVINO."""
    return _graph(model, size, "openvino")


def _graph(model: SegmentationModel, size: tuple[int, int], kind: str) -> Eager:
    return GraphEngine(model, in_bf16(model) if gains_from_bf16() else model, kind, size)


def _cached_graph(model: SegmentationModel, kind: str, size: tuple[int, int]) -> Path:
    """Return the graph's file in the cache folder; trace it if these weights have none."""
    facts = json.dumps([size, torch.__version__, state_hash(model)])
    key = hashlib.sha256(facts.encode()).hexdigest()[:24]
    graphs = CacheStore(cache_dir() / "graphs")
    onnx = graphs.open(
        f"{key}-onnx",
        build=lambda folder: to_onnx(model, folder / "model.onnx", size, confidence=True),
        read=lambda folder: folder / "model.onnx",
    )
    if kind != "openvino":
        return onnx
    return graphs.open(
        f"{key}-openvino",
        build=lambda folder: to_openvino(onnx, folder / "model.xml"),
        read=lambda folder: folder / "model.xml",
    )


def _log_pixels(image: Tensor) -> int:
    """Return the number of pixels as a rounded power of two."""
    return round(math.log2(image.shape[-2] * image.shape[-1]))


def _cache_key(model: nn.Module, image: Tensor, names: Sequence[str]) -> str:
    facts = [
        state_hash(model),  # agreement depends on the weights
        _log_pixels(image),
        torch.get_num_threads(),
        os.cpu_count(),
        torch.__version__,
        list(names),
        torch.backends.cpu.get_cpu_capability(),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
