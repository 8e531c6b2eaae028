"""What counting costs: our confusion matrix against torchmetrics' metrics, and its share of a training step.

    python benchmarks/metrics.py

One CPU thread, medians of one run on the same masks. `MeanIoU` is another number (it averages per image and knows no
ignored pixels); it is here for its cost alone.
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
    """Prints the tables."""
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
        prediction, target = (
            _areas(height, width, options.classes),
            _areas(height, width, options.classes),
        )
        ignored = target.clone()
        ignored[:, : height // 10] = 255
        ours = ConfusionMatrix(options.classes)
        mean = MeanIoU(options.classes, input_format="index")
        jaccard = MulticlassJaccardIndex(options.classes, ignore_index=255)
        stored = ignored.byte()  # as masks come out of a dataset
        cost = _median(lambda o=ours, p=prediction, t=stored: o.update(p, t), options.repeats)
        # MeanIoU raises on 255
        other = _median(
            lambda m=mean, p=prediction, t=target: m.update(p, t), max(3, options.repeats // 5)
        )
        third = _median(lambda j=jaccard, p=prediction, t=ignored: j.update(p, t), options.repeats)
        print(
            f"| {name} | {1000 * cost:.2f} | {limit} | {other / cost:.0f} | 50 | {third / cost:.1f} | 5 |"
        )
    step, update = _training_step(options.classes)
    print(f"\nswift, batch 8 of 360x480: step {1000 * step:.0f} ms, counting its masks {1000 * update:.2f} ms = "
          f"{100 * update / step:.2f} % (target under 1)")  # fmt: skip


def _areas(height: int, width: int, classes: int, batch: int = 1) -> torch.Tensor:
    """Class ids (B, H, W) int64 in connected areas, as masks have them."""
    coarse = torch.randn(batch, classes, height // 30, width // 30)
    return F.interpolate(coarse, size=(height, width), mode="bilinear").argmax(1)


def _training_step(classes: int) -> tuple[float, float]:
    """Seconds of one training step, and of counting as many pixels."""
    config = compose(["template=swift", "hp.pretrained_weights=none"]).config
    model = build(config.template["model"], classes).to(memory_format=torch.channels_last).train()
    loss, optimizer = (
        SegmentationLoss(config.loss, [1 / classes] * classes),
        torch.optim.AdamW(model.parameters()),
    )
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
