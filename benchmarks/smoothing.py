"""What smoothing does to flicker and to mIoU, on generated drives through streets whose every pixel is known.

    python benchmarks/smoothing.py MODEL [--scenes 4] [--frames 48]

MODEL is a folder, `runs:/ID` or `models:/NAME@champion` trained on the built-in street scenes; these have other seeds.
Flicker is the share of pixels whose class is not that of the place they came from in the frame before.
"""

import argparse

import torch
import torch.nn.functional as F

import segtune
from segtune.data.reading.images import resize_image, target_size
from segtune.data.street.scenes import Scene
from segtune.inference.segmenter import Segmenter
from segtune.inference.smoothing import SMOOTHINGS, Smoother
from segtune.measure.metrics import count_pairs, score

SEED, RATE = 90_000, 12.5


def drive(segmenter: Segmenter, seed: int, frames: int, how: str) -> tuple[torch.Tensor, Smoother]:
    """The confusion matrix of a smoothed drive, and what flickered; `none` counts the raw logits."""
    scene, smoother = Scene(seed), Smoother("flow" if how == "none" else how)
    classes = len(segmenter.classes)
    matrix = torch.zeros(classes, classes, dtype=torch.int64)
    with torch.inference_mode():
        for number in range(frames):
            view = scene.render(192, 256, number / RATE)
            size = target_size(*view.mask.shape, segmenter.image_size)
            image = resize_image(view.image, *size)
            logits = segmenter.logits(torch.from_numpy(image).permute(2, 0, 1)[None], size)
            smoothed = smoother.step(logits, image)
            kept = logits if how == "none" else smoothed
            ids = F.interpolate(
                kept, size=view.mask.shape, mode="bilinear", align_corners=False
            ).argmax(1)[0]
            matrix += count_pairs(ids.to(torch.uint8), torch.from_numpy(view.mask), classes)
    return matrix, smoother


def main() -> None:
    """Prints a row per way of smoothing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--frames", type=int, default=48)
    arguments = parser.parse_args()
    segmenter = segtune.load(arguments.model)
    print("| smooth | flicker | of none's | mIoU |\n| --- | --- | --- | --- |")
    reference = 0.0
    for how in SMOOTHINGS:
        done = [drive(segmenter, SEED + n, arguments.frames, how) for n in range(arguments.scenes)]
        figures = [s.before if how == "none" else s.after for _, s in done]
        share = sum(f.changed for f in figures) / sum(f.counted for f in figures)
        reference = reference or share
        miou = score(torch.stack([m for m, _ in done]).sum(0)).miou
        print(f"| {how} | {100 * share:.2f} % | {share / reference:.2f} | {100 * miou:.2f} |")


if __name__ == "__main__":
    main()
