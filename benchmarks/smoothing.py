"""Measure the effect of smoothing on flicker and mIoU, on generated videos with known masks.

    python benchmarks/smoothing.py MODEL [--scenes 4] [--frames 48]

MODEL is a folder, `runs:/ID` or `models:/NAME@champion`, trained on the built-in street scenes. The
videos show scenes of other seeds. Flicker is the share of pixels whose class differs from the class
of the same place in the frame before.
"""

import argparse

import torch
import torch.nn.functional as F

import segtune
from segtune.data.reading.images import resize_image, target_size
from segtune.data.street.scenes import Scene
from segtune.inference.choices import SMOOTHINGS
from segtune.inference.segmenter import Segmenter
from segtune.inference.smoothing import Smoother
from segtune.measure.metrics import count_pairs, score

SEED, RATE = 90_000, 12.5


def segment_video(
    segmenter: Segmenter, seed: int, frames: int, smoothing: str
) -> tuple[torch.Tensor, Smoother]:
    """Return the confusion matrix of a video, and its smoother with the counted flicker.

    `none` counts the unsmoothed logits.
    """
    is_raw = smoothing == "none"
    scene, smoother = Scene(seed), Smoother("flow" if is_raw else smoothing)
    classes = len(segmenter.classes)
    matrix = torch.zeros(classes, classes, dtype=torch.int64)
    with torch.inference_mode():
        for number in range(frames):
            view = scene.render(192, 256, number / RATE)
            size = target_size(*view.mask.shape, segmenter.image_size)
            image = resize_image(view.image, *size)
            logits = segmenter.logits(torch.from_numpy(image).permute(2, 0, 1)[None], size)
            smoothed = smoother.step(logits, image)
            scores = F.interpolate(
                logits if is_raw else smoothed,
                size=view.mask.shape,
                mode="bilinear",
                align_corners=False,
            )
            ids = scores.argmax(1)[0].to(torch.uint8)
            matrix += count_pairs(ids, torch.from_numpy(view.mask), classes)
    return matrix, smoother


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--frames", type=int, default=48)
    arguments = parser.parse_args()
    segmenter = segtune.load(arguments.model)
    print("| smooth | flicker | flicker / none | mIoU |\n| --- | --- | --- | --- |")
    reference = 0.0
    for smoothing in SMOOTHINGS:
        matrices, flickers = [], []
        for number in range(arguments.scenes):
            matrix, smoother = segment_video(segmenter, SEED + number, arguments.frames, smoothing)
            matrices.append(matrix)
            flickers.append(smoother.before if smoothing == "none" else smoother.after)
        share = sum(f.changed for f in flickers) / sum(f.counted for f in flickers)
        reference = reference or share
        miou = score(torch.stack(matrices).sum(0)).miou
        row = f"{100 * share:.2f} % | {share / reference:.2f} | {100 * miou:.2f}"
        print(f"| {smoothing} | {row} |")


if __name__ == "__main__":
    main()
