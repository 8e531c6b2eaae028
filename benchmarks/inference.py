"""What inference costs on a CPU: the same segmenter in eager PyTorch, ONNX Runtime and OpenVINO, argmax included.

    python benchmarks/inference.py runs:/ID dataset=camvid [--images 40] [--threads 1]

Every form gets the same val images, one at a time and in turn; medians. Between two forms there is a pause and a call
that is not timed: threads of the runtime before spin on for a while, and others wake slowly. Agreement is with eager
fp32 in PyTorch's default layout, and so is the loss in points of mIoU. int8 is calibrated on train images. The default
also gives each pixel's confidence, which the other forms do not. Eager forms take the class by `max(1).indices`, which
PyTorch does sooner than `argmax(1)`; the latter has a form of its own, and a line for what it is to the fastest ones.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segtune.config.compose import compose
from segtune.data.batches.cache import load_split
from segtune.data.sources import open_source
from segtune.inference.engines.engine import Eager, Fastest, in_bf16
from segtune.inference.engines.graphs import Runtime, to_int8, to_onnx, to_openvino
from segtune.inference.loading import open_model
from segtune.measure.metrics import count_pairs, score
from segtune.tracking.registry import locate
from segtune.tracking.store import open_store

WITH_ARGMAX = "eager fp32, argmax(1)"
DEFAULT = "default of predict (fastest), with confidences"
INT8 = "ONNX Runtime int8"
Form = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = compose(options.overrides).config
    segmenter = open_model(locate(options.model, open_store(config.tracking)).folder, "cpu")
    source = open_source(config.dataset)
    val = load_split(source, "val", segmenter.image_size, stored_masks=True)
    train = load_split(source, "train", segmenter.image_size)
    count = min(options.images, len(val))
    images = [
        np.ascontiguousarray(val.images[i * len(val) // count].transpose(2, 0, 1)[None])
        for i in range(count)
    ]
    truths = [
        torch.from_numpy(np.array(val.masks[i * len(val) // count]))[None] for i in range(count)
    ]
    calibration = [train.images[i * len(train) // 40] for i in range(40)]
    with tempfile.TemporaryDirectory() as folder:
        forms = _forms(
            segmenter.model, Path(folder), images[0].shape[2:], calibration, options.threads
        )
        _measure(forms, images, truths, len(source.classes))


def _forms(
    model: nn.Module,
    folder: Path,
    size: tuple[int, int],
    calibration: list[NDArray[np.uint8]],
    threads: int,
) -> dict[str, Form]:
    to_onnx(model, folder / "model.onnx", size)
    to_openvino(folder / "model.onnx", folder / "model.xml")
    to_int8(folder / "model.onnx", folder / "int8.onnx", calibration)
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    default = Fastest(model, graphs=True, keep=folder / "engines.json", say=print)
    halved = in_bf16(model)
    return {
        "eager fp32": lambda x: _eager(plain, x, False),
        WITH_ARGMAX: lambda x: _argmax(plain, x),
        "eager fp32, channels_last": lambda x: _eager(model, x, False),
        "eager bf16 by autocast, channels_last": lambda x: _eager(model, x, True),
        "bf16 weights, batch norm folded": lambda x: _eager(halved, x, False),
        DEFAULT: lambda x: _decided(default, x),
        "ONNX Runtime fp32": Runtime(folder / "model.onnx", threads).masks,
        "OpenVINO fp32": Runtime(folder / "model.xml", threads).masks,
        "OpenVINO bf16": Runtime(folder / "model.xml", threads, precision="bf16").masks,
        INT8: Runtime(folder / "int8.onnx", threads).masks,
    }


def _eager(model: nn.Module, image: NDArray[np.uint8], bf16: bool) -> NDArray[np.uint8]:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return model(torch.from_numpy(image)).max(1).indices.to(torch.uint8).numpy()


def _argmax(model: nn.Module, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with torch.inference_mode():
        return model(torch.from_numpy(image)).argmax(1).to(torch.uint8).numpy()


def _decided(engine: Eager, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with torch.inference_mode():
        return engine.decide(torch.from_numpy(image), image.shape[-2:])[0][0][None]


def _measure(
    forms: dict[str, Form],
    images: list[NDArray[np.uint8]],
    truths: list[torch.Tensor],
    classes: int,
) -> None:
    found = {
        name: [form(x) for x in images] for name, form in forms.items()
    }  # warm, and what they answer
    times: dict[str, list[float]] = {name: [] for name in forms}
    for image in images:
        for name, form in forms.items():
            time.sleep(0.1)
            form(image)
            started = time.perf_counter()
            form(image)
            times[name].append(time.perf_counter() - started)
    first = next(iter(forms))
    base = statistics.median(times[first])
    own = _miou(found[first], truths, classes)
    print("| form | ms an image | times as fast | same class | mIoU, points to eager fp32 |")
    print("| --- | --- | --- | --- | --- |")
    for name in forms:
        cost = statistics.median(times[name])
        same = np.mean([np.mean(a == b) for a, b in zip(found[name], found[first], strict=True)])
        loss = 100 * (_miou(found[name], truths, classes) - own)
        print(f"| {name} | {1e3 * cost:.1f} | {base / cost:.2f} | {same:.3%} | {loss:+.2f} |")
    naive, *ours = (statistics.median(times[name]) for name in (WITH_ARGMAX, DEFAULT, INT8))
    print(
        f"\nimage to classes, against {WITH_ARGMAX}: default {naive / ours[0]:.2f}, int8 {naive / ours[1]:.2f}"
    )


def _miou(masks: list[NDArray[np.uint8]], truths: list[torch.Tensor], classes: int) -> float:
    pairs = zip(masks, truths, strict=True)
    return score(sum(count_pairs(torch.from_numpy(np.array(m)), t, classes) for m, t in pairs)).miou


if __name__ == "__main__":
    main()
