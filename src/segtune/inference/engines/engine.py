"""What a segmenter computes with: eager fp32 as it was trained, folded bf16, or a graph in another runtime.

`auto` times what is there on the first images of about a size and takes the fastest that sees the same as eager fp32.
"""

import copy
import functools
import hashlib
import json
import math
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segtune.data.source.files import cache_dir
from segtune.errors import ConfigError, nearest
from segtune.inference.choices import ENGINES
from segtune.inference.decisions import Decided, decide
from segtune.inference.engines.graphs import (
    Runtime,
    check_installed,
    is_installed,
    to_onnx,
    to_openvino,
)
from segtune.models.folder import state_hash
from segtune.models.networks.network import Network
from segtune.models.probe import add_result, read_results
from segtune.models.segmentation_model import SegmentationModel
from segtune.models.timing import call_seconds, fastest, fastest_in_turns
from segtune.runtime.log import Log

LEAST_AGREEMENT = 0.995
_ROUNDS = 3
_PAUSE = 0.1  # seconds
_MARGIN = 0.9  # another engine must save a tenth of the time, or noise would choose


class Eager:
    """PyTorch, as it stands."""

    def __init__(self, model: SegmentationModel, name: str = "eager") -> None:
        self.model, self.name = model, name

    def coarse(self, image: Tensor) -> Tensor:
        """Logits of uint8 images (B, 3, H, W) as the net gives them; see `SegmentationModel.coarse`."""
        return self.model.coarse(image)

    def logits(self, image: Tensor) -> Tensor:
        """Logits (B, C, H, W) of uint8 images (B, 3, H, W)."""
        return self.model.at_size(self.coarse(image), image.shape[-2:])

    def decide(self, image: Tensor, size: Sequence[int]) -> list[Decided]:
        """Class ids and their softmax probabilities, at `size` (H, W), of uint8 images (B, 3, h, w)."""
        own = tuple(image.shape[-2:])
        if tuple(size) == own:
            return decide(self.coarse(image), size, self.model.padded(own))
        return decide(self.logits(image), size)


class Graph(Eager):
    """An ONNX Runtime or OpenVINO graph that gives ids and probabilities; whatever else is asked for, torch computes.

    Args:
        halved: what torch computes, in bf16 where that is faster here.
        kind: onnx or openvino.
        size: (H, W) that the graph is traced with; of an architecture that knows one size only, others are torch's.
    """

    def __init__(
        self, model: SegmentationModel, halved: SegmentationModel, kind: str, size: tuple[int, int]
    ) -> None:
        super().__init__(halved, kind)
        check_installed(kind)
        self._runtime = Runtime(
            _graph_of(model, kind, size), precision="bf16" if gains_from_bf16() else "f32"
        )

    def decide(self, image: Tensor, size: Sequence[int]) -> list[Decided]:
        only, own = self._runtime.size, tuple(image.shape[-2:])
        if tuple(size) != own or only not in (None, own):
            return super().decide(image, size)
        pixels = image.cpu().numpy()
        parts = [pixels] if only is None else np.split(pixels, len(pixels))
        return [pair for part in parts for pair in zip(*self._runtime.both(part), strict=True)]


class Fastest(Eager):
    """The fastest engine for images of about a size, measured when one is first seen, then kept for these weights.

    Sizes whose pixels round to one power of two count as one: folders may hold hundreds of different ones.

    Args:
        graphs: for decisions at the image's size also tries ONNX Runtime and OpenVINO, where they are installed: worth
            their tracing (seconds) for many images.
        keep: JSON file of earlier answers.
        say: is told what was chosen.
    """

    def __init__(
        self,
        model: SegmentationModel,
        graphs: bool = False,
        keep: Path | None = None,
        say: Log = lambda _: None,
    ) -> None:
        super().__init__(model, "auto")
        self.graphs, self.say = graphs, say
        self.keep = keep or cache_dir() / "engines.json"
        self._made: dict[str, Eager] = {"eager": Eager(model)}
        self._chosen: dict[tuple[int, bool], Eager] = {}

    def coarse(self, image: Tensor) -> Tensor:
        return self.engine(image, graphs=False).coarse(image)  # a graph has no logits to give

    def decide(self, image: Tensor, size: Sequence[int]) -> list[Decided]:
        graphs = self.graphs and tuple(size) == tuple(image.shape[-2:])
        return self.engine(image, graphs).decide(image, size)

    def engine(self, image: Tensor, graphs: bool) -> Eager:
        """What serves images of about this size."""
        key = (_magnitude(image), graphs)
        if key not in self._chosen:
            self._chosen[key] = self._choose(image[:1], graphs)
        return self._chosen[key]

    def _choose(self, image: Tensor, graphs: bool) -> Eager:
        if image.device.type != "cpu":
            return self._made[
                "eager"
            ]  # a GPU's precision is a question of training, where it was measured
        names = ["eager", "bf16"] if gains_from_bf16() else ["eager"]
        names += [n for n in ("onnx", "openvino") if graphs and is_installed(n)]
        key = _key(self.model, image, names)
        result = read_results(self.keep).get(key)
        if result is None:
            result = self._measure(image, names)
            add_result(self.keep, key, result)
        return self._engine(str(result["engine"]), image)

    def _engine(self, name: str, image: Tensor) -> Eager:
        if name not in self._made:
            self._made[name] = make_engine(self.model, name, (image.shape[-2], image.shape[-1]))
        return self._made[name]

    def _measure(self, image: Tensor, names: Sequence[str]) -> dict[str, Any]:
        engines = {name: self._engine(name, image) for name in names}
        size = image.shape[-2:]
        seen = {name: engine.decide(image, size)[0][0] for name, engine in engines.items()}

        def turn(name: str) -> float:
            # the call before the timed ones wakes the threads of the runtime
            decision = functools.partial(engines[name].decide, image, size)
            return fastest(lambda: call_seconds(decision, image.device), calls=2)

        turns = {name: functools.partial(turn, name) for name in names}
        seconds = fastest_in_turns(turns, _ROUNDS, pause=_PAUSE)
        rows: list[dict[str, Any]] = [
            {
                "engine": name,
                "ms": round(1e3 * seconds[name], 2),
                "agreement": round(float(np.mean(seen[name] == seen["eager"])), 5),
            }
            for name in names
        ]
        fit = [r for r in rows if r["agreement"] >= LEAST_AGREEMENT]
        best = min(fit, key=lambda r: r["ms"])
        chosen = best if best["ms"] < _MARGIN * rows[0]["ms"] else rows[0]
        told = ", ".join(f"{r['engine']} {r['ms']} ms" for r in rows)
        self.say(f"computes with {chosen['engine']} ({told} an image)")
        return {**chosen, "measured": rows}


def make_engine(
    model: SegmentationModel,
    name: str,
    size: tuple[int, int],
    graphs: bool = False,
    say: Log = lambda _: None,
) -> Eager:
    """An engine by name.

    Args:
        size: (H, W) of typical images.
        graphs: whether `auto` tries graphs, too.

    Raises:
        ConfigError: an unknown name, or one whose libraries are not installed.
    """
    if name not in ENGINES:
        raise ConfigError(
            f"runtime={name}: {nearest(name, ENGINES)} (allowed: {', '.join(ENGINES)})"
        )
    if name == "auto":
        return Fastest(model, graphs, say=say)
    if name == "eager":
        return Eager(model)
    if name == "bf16":
        return Eager(in_bf16(model), "bf16")
    return Graph(model, in_bf16(model) if gains_from_bf16() else model, name, size)


def in_bf16(model: SegmentationModel) -> SegmentationModel:
    """A copy with weights and activations in bf16 and batch norms folded; its logits are fp32 again."""
    net = fold(copy.deepcopy(model.net).eval()).to(torch.bfloat16)
    copied = SegmentationModel(_Bf16(net), model.preprocessing).to(model.normalize.mean.device)
    return copied.to(memory_format=torch.channels_last).eval()


class _Bf16(Network):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x.to(torch.bfloat16))
        return found.float()


def fold(model: nn.Module) -> nn.Module:
    """Batch norms that follow a convolution, in a sequence or as conv1 and bn1, become part of it; in place."""
    for module in model.modules():
        names = list(module._modules)
        for first, second in pairwise(names):
            conv, norm = module._modules[first], module._modules[second]
            follows = isinstance(module, nn.Sequential) or second == first.replace("conv", "bn")
            if follows and type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
                module._modules[first], module._modules[second] = (
                    fuse_conv_bn_eval(conv, norm),
                    nn.Identity(),
                )
    return model


@functools.cache
def gains_from_bf16() -> bool:
    """Whether this CPU convolves faster in bf16 than in fp32, measured once per process in some milliseconds.

    Instructions for it are not enough: with AVX-512's and no AMX, Intel's take twice as long as fp32 (LOG.md).
    """
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    if not supported():
        return False
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    image = torch.rand(1, 64, 96, 96).to(memory_format=torch.channels_last)
    plain = _fastest_call(layer, image)
    return _fastest_call(layer.to(torch.bfloat16), image.to(torch.bfloat16)) < _MARGIN * plain


def _fastest_call(layer: nn.Module, image: Tensor) -> float:
    """Seconds of the fastest of a few calls, after one that is not counted."""
    with torch.inference_mode():
        return fastest(lambda: call_seconds(lambda: layer(image), image.device), calls=5)


def _graph_of(model: SegmentationModel, kind: str, size: tuple[int, int]) -> Path:
    """The graph's file in the cache folder, traced once for these weights."""
    key = hashlib.sha256(
        json.dumps([size, torch.__version__, state_hash(model)]).encode()
    ).hexdigest()
    folder = cache_dir() / "graphs" / key[:24]
    folder.mkdir(parents=True, exist_ok=True)
    source, path = (
        folder / "model.onnx",
        folder / ("model.xml" if kind == "openvino" else "model.onnx"),
    )
    with FileLock(folder / "lock"):
        for target, write in (
            (source, lambda p: to_onnx(model, p, size, True)),
            (path, lambda p: to_openvino(source, p)),
        ):
            if not target.is_file():
                unfinished = target.with_name(f"unfinished{target.suffix}")
                write(unfinished)
                if target.suffix == ".xml":
                    unfinished.with_suffix(".bin").replace(target.with_suffix(".bin"))
                unfinished.replace(target)
    return path


def _magnitude(image: Tensor) -> int:
    """Of the number of pixels, as a power of two."""
    return round(math.log2(image.shape[-2] * image.shape[-1]))


def _key(model: nn.Module, image: Tensor, names: Sequence[str]) -> str:
    facts = [
        state_hash(model),  # what was measured of one says nothing of another
        _magnitude(image),
        torch.get_num_threads(),
        os.cpu_count(),
        torch.__version__,
        list(names),
    ]
    facts.append(torch.backends.cpu.get_cpu_capability())
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
