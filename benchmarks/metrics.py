"""Time our confusion matrix against torchmetrics' metrics, and as a share of a training step.

    python benchmarks/metrics.py

One CPU thread; medians of one run on the same masks. Only the time of `MeanIoU` is compared: it is
another number, which averages per image and cannot ignore pixels.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

from segtune.config.compose import compose
from segtune.measure.metrics import ConfusionMatrix
from segtune.models.build import build
from segtune.models.losses.segmentation import SegmentationLoss

_SIZES = {"360x480": (360, 480, 0.5), "1024x2048": (1024, 2048, 4.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--repeats", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        "| image | update, ms | target | MeanIoU / ours | target | JaccardIndex / ours | target |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (height, width, limit) in _SIZES.items():
        ours, mean, jaccard = _update_seconds(height, width, options.classes, options.repeats)
        ratios = f"{mean / ours:.0f} | 50 | {jaccard / ours:.1f} | 5"
        print(f"| {name} | {1000 * ours:.2f} | {limit} | {ratios} |")
    step, update = _training_step(options.classes)
    print(
        f"\nswift, batch 8 of 360x480: step {1000 * step:.0f} ms, counting its masks "
        f"{1000 * update:.2f} ms = {100 * update / step:.2f} % (target under 1)"
    )


def _update_seconds(
    height: int, width: int, classes: int, repeats: int
) -> tuple[float, float, float]:
    """Return the seconds of one update of our matrix, of MeanIoU, and of the Jaccard index."""
    prediction, target = (_areas(height, width, classes) for _ in range(2))
    ignored = target.clone()
    ignored[:, : height // 10] = 255
    stored = ignored.byte()  # the masks of a dataset are bytes
    ours = ConfusionMatrix(classes)
    mean = MeanIoU(classes, input_format="index")
    jaccard = MulticlassJaccardIndex(classes, ignore_index=255)
    return (
        _median(lambda: ours.update(prediction, stored), repeats),
        _median(lambda: mean.update(prediction, target), max(3, repeats // 5)),  # raises on 255
        _median(lambda: jaccard.update(prediction, ignored), repeats),
    )


def _areas(height: int, width: int, classes: int, batch: int = 1) -> torch.Tensor:
    """Return class ids (B, H, W) int64 in connected areas, as in masks."""
    coarse = torch.randn(batch, classes, height // 30, width // 30)
    return F.interpolate(coarse, size=(height, width), mode="bilinear").argmax(1)


def _training_step(classes: int) -> tuple[float, float]:
    """Return the seconds of one training step, and of counting the same number of pixels."""
    config = compose(["template=swift", "hp.pretrained_weights=none"]).config
    model = build(config.template["model"], classes).to(memory_format=torch.channels_last).train()
    loss = SegmentationLoss(config.loss, [1 / classes] * classes)
    optimizer = torch.optim.AdamW(model.parameters())
    image = torch.randint(0, 256, (8, 3, 360, 480), dtype=torch.uint8)
    target = _areas(360, 480, classes, batch=8).byte()
    stride = config.loss.stride
    small = target[:, stride // 2 :: stride, stride // 2 :: stride]

    def step() -> None:
        optimizer.zero_grad()
        logits = model(image, stride=stride)[..., : small.shape[1], : small.shape[2]]
        loss(logits, small).backward()
        optimizer.step()

    metric = ConfusionMatrix(classes)
    prediction = _areas(360, 480, classes, batch=8)
    return _median(step, 5), _median(lambda: metric.update(prediction, target), 25)


def _median(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
