"""Compare heads on cached features with full fine-tuning: trials in an hour, and their ranking.

    python benchmarks/head_sweep.py [--template segformer] [--encoder resnet50] [--epochs 6]
        [--base-epochs 6] [--train 160] [--size 192] [--configurations 9]

A model is trained on street scenes of one seed. The same configurations (learning rates and losses)
then start from it on scenes of another seed, once as full fine-tuning and once as a head on the
features of the frozen encoder. The time of a trial runs from reading the data to the measured
segmenter. Encoding happens once for all heads, so its time is printed separately. Kendall's tau
compares the two rankings by val mIoU.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import kendalltau

import segtune

RATES = (3e-5, 2e-4, 1.5e-3)
LOSSES = ("ce", "ce_dice", "focal")


@dataclass(frozen=True)
class Trial:
    """Seconds and val mIoU of one run."""

    seconds: float
    miou: float


def words(options: argparse.Namespace, root: Path, seed: int, epochs: int) -> list[str]:
    return [
        "dataset=street",
        f"dataset.street.seed={seed}",
        f"dataset.street.train={options.train}",
        f"dataset.street.val={options.train // 4}",
        f"template={options.template}",
        f"hp.encoder={options.encoder}",
        f"hp.image_size=[{options.size}]",
        "hp.batch_size=8",
        f"hp.num_epochs={epochs}",
        "trainer=cpu",
        f"trainer.val_every={epochs}",
        "tracking.overlays=0",
        f"tracking.root={root}",
    ]


def run(overrides: list[str]) -> Trial:
    started = time.monotonic()
    result = segtune.train(*overrides, say=lambda _: None)
    return Trial(time.monotonic() - started, result.miou)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--template", default="segformer")
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument(
        "--base-epochs", type=int, help="epochs of the shared first model (default: --epochs)"
    )
    parser.add_argument(
        "--train", type=int, default=160, help="train scenes; a quarter of this number for val"
    )
    parser.add_argument("--size", type=int, default=192, help="shorter side of an image in pixels")
    parser.add_argument("--configurations", type=int, default=9)
    return parser.parse_args()


def compare(options: argparse.Namespace, root: Path) -> None:
    base_words = words(options, root, 1, options.base_epochs or options.epochs)
    base_words += ["hp.pretrained_weights=none", "hp.per_item_lrate=1.2e-4"]
    base = segtune.train(*base_words, say=lambda _: None)
    print(f"{options.template} on {options.encoder}, base model {base.miou:.3f} val mIoU\n")
    weights = f"hp.pretrained_weights='{base.segmenter}'"
    encoding = run([*words(options, root, 0, 1), "tuning=head", weights])
    print("| loss | lr per item | full, s | mIoU | head, s | mIoU |")
    print("| --- | --- | --- | --- | --- | --- |")
    fulls, heads = [], []
    configurations = list(itertools.product(LOSSES, RATES))[: options.configurations]
    for loss, rate in configurations:
        overrides = [*words(options, root, 0, options.epochs), weights]
        overrides += [f"loss={loss}", f"hp.per_item_lrate={rate}"]
        full, head = run(overrides), run([*overrides, "tuning=head"])
        fulls.append(full)
        heads.append(head)
        cells = (f"{t.seconds:.1f} | {t.miou:.3f}" for t in (full, head))
        print(f"| {loss} | {rate:g} | {' | '.join(cells)} |", flush=True)
    ratio = statistics.median(f.seconds / h.seconds for f, h in zip(fulls, heads, strict=True))
    tau = float("nan")
    if len(fulls) > 1:
        tau = kendalltau([t.miou for t in fulls], [t.miou for t in heads]).statistic
    print(
        f"\n{ratio:.1f} times the trials in an hour (target 8); "
        f"Kendall's tau {tau:.2f} over {len(fulls)}; "
        f"encoding and one epoch, once: {encoding.seconds:.1f} s"
    )


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder:
        compare(options, Path(folder))


if __name__ == "__main__":
    main()
