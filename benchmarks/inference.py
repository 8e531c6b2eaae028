"""Time inference on a CPU: one segmenter in eager PyTorch, ONNX Runtime and OpenVINO, with argmax.

    python benchmarks/inference.py runs:/ID dataset=camvid [--images 40] [--threads 1]

Every form gets the same val images, one at a time and in turn; the table shows medians. A pause and
an untimed call come before each timed call, because the threads of the runtime before spin on for a
while, and other threads wake slowly. Agreement and the difference in mIoU refer to eager fp32 in
PyTorch's default layout. int8 is calibrated on train images. Only the default also returns the
confidence of each pixel. Eager forms take the class by `max(1).indices`, which is faster in PyTorch
than `argmax(1)`; `argmax(1)` is a form of its own, and the last line compares it with the fastest
forms.
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
from segtune.inference.engines.bf16 import in_bf16
from segtune.inference.engines.engine import Eager, Fastest
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
    indices = [i * len(val) // count for i in range(count)]
    images = [np.ascontiguousarray(val.images[i].transpose(2, 0, 1)[None]) for i in indices]
    truths = [torch.from_numpy(np.array(val.masks[i]))[None] for i in indices]
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
    default = Fastest(model, graphs=True, cache=folder / "engines.json", say=print)
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
    masks = {}
    for name, form in forms.items():  # also warms up
        masks[name] = [form(image) for image in images]
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
    base_miou = _miou(masks[first], truths, classes)
    print("| form | ms per image | speed-up | same class | mIoU less eager fp32, points |")
    print("| --- | --- | --- | --- | --- |")
    for name in forms:
        seconds = statistics.median(times[name])
        pairs = zip(masks[name], masks[first], strict=True)
        agreement = np.mean([np.mean(mask == reference) for mask, reference in pairs])
        gain = 100 * (_miou(masks[name], truths, classes) - base_miou)
        cells = f"{1e3 * seconds:.1f} | {base / seconds:.2f} | {agreement:.3%} | {gain:+.2f}"
        print(f"| {name} | {cells} |")
    argmax, default, int8 = (statistics.median(times[n]) for n in (WITH_ARGMAX, DEFAULT, INT8))
    print(
        f"\nspeed-up over {WITH_ARGMAX}: default {argmax / default:.2f}, int8 {argmax / int8:.2f}"
    )


def _miou(masks: list[NDArray[np.uint8]], truths: list[torch.Tensor], classes: int) -> float:
    pairs = zip(masks, truths, strict=True)
    return score(sum(count_pairs(torch.from_numpy(np.array(m)), t, classes) for m, t in pairs)).miou


if __name__ == "__main__":
    main()
