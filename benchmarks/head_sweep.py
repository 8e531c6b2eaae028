"""Heads on cached features against full fine-tuning: trials in an hour, and whether both rank configurations alike.

    python benchmarks/head_sweep.py [--template segformer] [--encoder resnet50] [--epochs 6] [--base-epochs 6]
                                    [--train 160] [--size 192] [--configurations 9]

A model is trained on street scenes of one seed; then the same configurations (learning rates and losses) are
fine-tuned from it on scenes of another, once whole and once as a head on the frozen encoder's features. Both count all
that a trial takes, from data to the measured segmenter; the encoding, done once for all heads, is given apart.
Kendall's tau compares the two rankings by val mIoU.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from scipy.stats import kendalltau

import segtune

RATES = (3e-5, 2e-4, 1.5e-3)
LOSSES = ("ce", "ce_dice", "focal")


def words(options: argparse.Namespace, root: Path, seed: int, epochs: int) -> list[str]:
    return [
        "dataset=street", f"dataset.street.seed={seed}", f"dataset.street.train={options.train}",
        f"dataset.street.val={options.train // 4}", f"template={options.template}",
        f"hp.encoder={options.encoder}", f"hp.image_size=[{options.size}]", "hp.batch_size=8",
        f"hp.num_epochs={epochs}", "trainer=cpu", f"trainer.val_every={epochs}", "tracking.overlays=0",
        f"tracking.root={root}",
    ]  # fmt: skip


def trial(given: list[str]) -> tuple[float, float]:
    """Seconds of a run, and its val mIoU."""
    started = time.monotonic()
    done = segtune.train(*given, say=lambda _: None)
    return time.monotonic() - started, done.miou


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--template", default="segformer")
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument(
        "--base-epochs", type=int, help="of the model that all start from; as many as --epochs"
    )
    parser.add_argument(
        "--train", type=int, default=160, help="scenes to train on; a quarter as many to validate"
    )
    parser.add_argument("--size", type=int, default=192, help="shorter side of an image in pixels")
    parser.add_argument("--configurations", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        begun = words(options, root, 1, options.base_epochs or options.epochs)
        given = [*begun, "hp.pretrained_weights=none", "hp.per_item_lrate=1.2e-4"]
        base = segtune.train(*given, say=lambda _: None)
        print(
            f"{options.template} on {options.encoder}, from {base.miou:.3f} on scenes of another seed\n"
        )
        weights = f"hp.pretrained_weights='{base.segmenter}'"
        encoding, _ = trial([*words(options, root, 0, 1), "tuning=head", weights])
        print(
            "| loss | lr per item | whole, s | mIoU | head, s | mIoU |\n| --- | --- | --- | --- | --- | --- |"
        )
        rows: list[tuple[float, float, float, float]] = []
        for loss, rate in [(x, r) for x in LOSSES for r in RATES][: options.configurations]:
            same = [
                *words(options, root, 0, options.epochs),
                weights,
                f"loss={loss}",
                f"hp.per_item_lrate={rate}",
            ]
            whole, head = trial(same), trial([*same, "tuning=head"])
            rows.append((*whole, *head))
            print(
                f"| {loss} | {rate:g} | {whole[0]:.1f} | {whole[1]:.3f} | {head[0]:.1f} | {head[1]:.3f} |",
                flush=True,
            )
        ratio = statistics.median(r[0] / r[2] for r in rows)
        tau = (
            kendalltau([r[1] for r in rows], [r[3] for r in rows]).statistic
            if len(rows) > 1
            else float("nan")
        )
        print(f"\n{ratio:.1f} times the trials in an hour (target 8); Kendall's tau {tau:.2f} over {len(rows)}; "
              f"encoding and one epoch, once: {encoding:.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()
