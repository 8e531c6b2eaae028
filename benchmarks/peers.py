"""The framework beside what users would pick instead: same data, split, resolution, machine, seconds, seeds.

    SEGTUNE_DATA=DIR python benchmarks/peers.py --data camvid nuclei potholes --minutes 5 15 --seeds 0 1 2 [--threads 2]

What is finished is kept in a file of JSON lines (--keep): stopped, the same command goes on; twelve hours in full.

Every candidate trains from scratch (nothing can be downloaded) for the same time, on images decoded and resized once,
outside of the time, and is validated once, at the end, on whole images at the size of their masks. Time is wall time;
with --cpu, the peers' is CPU time of the process. Schedules run over the time that is there.

segtune   `segtune train dataset=… template=swift hp=fast trainer.minutes=M`, all else as it comes. Its minutes include
          reading, decoding and its validations, of which it keeps the best.
smp       segmentation_models.pytorch: the Unet on resnet34 of its quick start with the recipe of its CamVid example
          (batches of 32, Adam at 2e-4, cosine, Dice loss, flips, shifts, zooms, crops of 320), in a Lightning loop.
torchvision   its reference recipe (references/segmentation): DeepLabV3 on MobileNetV3-Large, SGD at 0.01 with momentum
          0.9 and weight decay 1e-4, poly 0.9, batches of 8, resize to 0.5 to 2 times, flip, crops of 480.
adapted   what smp and torchvision document is meant for GPUs and comes to few steps in minutes of a CPU. This is smp's
          Unet as one who knows that would set it up: resnet18, batches of 8, crops of 256, smp's shifts and zooms,
          cross-entropy plus Dice, AdamW at 1e-3 with a tenth of warm-up and cosine, in channels_last, and in bf16 where
          the CPU convolves faster in it.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

import segtune
from segtune.config.compose import compose
from segtune.data.batches.cache import load_split
from segtune.data.batches.decoded import Decoded
from segtune.data.sources import open_source
from segtune.inference.engines.engine import gains_from_bf16
from segtune.measure.metrics import count_pairs, score

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
PEERS = ["smp", "torchvision", "adapted"]
_ROOT = os.environ.get("SEGTUNE_DATA", "")
DATA = {
    "camvid": ["dataset=camvid"],
    "nuclei": ["dataset=instances", f"dataset.root={_ROOT}/dsb2018_nuclei"],
    "potholes": ["dataset=yolo", f"dataset.root={_ROOT}/pothole_yoloseg"],
    "street": ["dataset=street"],
}


def normalised(image) -> torch.Tensor:
    """(3, H, W) float of RGB bytes (H, W, 3)."""
    return (torch.from_numpy(image).permute(2, 0, 1).float() / 255 - MEAN[:, None, None]) / STD[
        :, None, None
    ]


class Pairs(Dataset):
    """Decoded pairs through a view."""

    def __init__(self, split: Decoded, view: Callable, length: int) -> None:
        self.split, self.view, self.length = split, view, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int):
        image, mask = self.view(
            self.split.images[index % len(self.split)], self.split.masks[index % len(self.split)]
        )
        return normalised(image), torch.from_numpy(mask).long()


def crop_to(image, mask, side: int):
    """A random square, padded with ignored pixels where the image is smaller."""
    below, right = max(0, side - image.shape[0]), max(0, side - image.shape[1])
    if below or right:
        image = cv2.copyMakeBorder(
            image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(124, 116, 104)
        )
        mask = cv2.copyMakeBorder(mask, 0, below, 0, right, cv2.BORDER_CONSTANT, value=255)
    y, x = (
        np.random.randint(image.shape[0] - side + 1),
        np.random.randint(image.shape[1] - side + 1),
    )
    rows, columns = slice(y, y + side), slice(x, x + side)
    return np.ascontiguousarray(image[rows, columns]), np.ascontiguousarray(mask[rows, columns])


def smp_view(image, mask, side: int):
    """Flip, then shift by up to a tenth, scale by up to a half, half of the time; a crop."""
    if np.random.rand() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    image, mask = np.ascontiguousarray(image), np.ascontiguousarray(mask)
    if np.random.rand() < 0.5:
        (h, w), zoom = mask.shape, 1 + np.random.uniform(-0.5, 0.5)
        matrix = cv2.getRotationMatrix2D((w / 2, h / 2), 0, zoom)
        matrix[:, 2] += np.random.uniform(-0.1, 0.1, 2) * (w, h)
        image = cv2.warpAffine(image, matrix, (w, h))
        mask = cv2.warpAffine(mask, matrix, (w, h), flags=cv2.INTER_NEAREST, borderValue=255)
    return crop_to(image, mask, side)


def torchvision_view(image, mask):
    zoom = np.random.uniform(0.5, 2.0)
    size = max(1, round(mask.shape[1] * zoom)), max(1, round(mask.shape[0] * zoom))
    image, mask = cv2.resize(image, size), cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    if np.random.rand() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return crop_to(np.ascontiguousarray(image), np.ascontiguousarray(mask), 480)


class Peer(pl.LightningModule):
    """A network, a loss and an optimiser whose schedule follows the clock."""

    def __init__(self, net, loss, optimizer, factor, clock, seconds) -> None:
        super().__init__()
        self.net, self.loss, self.make, self.factor = net, loss, optimizer, factor
        self.clock, self.seconds, self.started = clock, seconds, clock()

    @property
    def progress(self) -> float:
        return min(1.0, (self.clock() - self.started) / self.seconds)

    def training_step(self, batch, _):
        image, mask = batch
        return self.loss(self.net(image), mask)

    def on_train_batch_end(self, *_):
        if self.progress >= 1.0:
            self.trainer.should_stop = True

    def configure_optimizers(self):
        optimizer = self.make(self.net.parameters())
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda _: self.factor(self.progress)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class TorchvisionNet(nn.Module):
    """The reference network; with its auxiliary head while it trains."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.net = deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=classes, aux_loss=True
        )

    def forward(self, x):
        out = self.net(x)
        return (out["out"], out["aux"]) if self.training else out["out"]


@dataclass(frozen=True)
class Recipe:
    """How one peer is trained."""

    net: nn.Module
    loss: Callable
    optimizer: Callable
    factor: Callable[[float], float]
    view: Callable
    batch: int
    for_cpu: bool = False  # channels_last, and bf16 where the CPU is faster in it


def recipe_of(name: str, classes: int) -> Recipe:
    dice = smp.losses.DiceLoss("multiclass", ignore_index=255)
    if name == "smp":
        return Recipe(
            smp.Unet("resnet34", encoder_weights=None, classes=classes), dice, lambda p: torch.optim.Adam(p, lr=2e-4),
            lambda t: 0.5 * (1 + np.cos(np.pi * t)) + 0.05, partial(smp_view, side=320), 32,
        )  # fmt: skip
    if name == "torchvision":

        def both_heads(out, mask):
            main, aux = (F.cross_entropy(o, mask, ignore_index=255) for o in out)
            return main + 0.5 * aux

        sgd = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=1e-4)
        return Recipe(
            TorchvisionNet(classes), both_heads, sgd, lambda t: (1 - t) ** 0.9, torchvision_view, 8
        )
    return Recipe(
        smp.Unet("resnet18", encoder_weights=None, classes=classes),
        lambda out, mask: F.cross_entropy(out, mask, ignore_index=255) + dice(out, mask),
        lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=1e-2),
        lambda t: min(t / 0.1, 0.5 * (1 + np.cos(np.pi * (t - 0.1) / 0.9))),
        partial(smp_view, side=256), 8, for_cpu=True,
    )  # fmt: skip


def train_peer(
    name: str, train: Decoded, classes: int, seconds: float, clock, seed: int
) -> nn.Module:
    pl.seed_everything(seed, verbose=False)
    made = recipe_of(name, classes)
    pairs = Pairs(train, made.view, max(made.batch, len(train)))
    net = made.net.to(memory_format=torch.channels_last) if made.for_cpu else made.net
    module = Peer(net, made.loss, made.optimizer, made.factor, clock, seconds)
    bf16 = made.for_cpu and gains_from_bf16()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, precision="bf16-mixed" if bf16 else "32-true",
    )  # fmt: skip
    trainer.fit(module, DataLoader(pairs, made.batch, shuffle=True, drop_last=True))
    print(f"{name}: {trainer.global_step} steps of {made.batch}", flush=True)
    return net.eval()


@torch.inference_mode()
def validate(net: nn.Module, val: Decoded, classes: int) -> float:
    """MIoU over the split, from one matrix; images are padded to a multiple of 32."""
    total = torch.zeros(classes, classes, dtype=torch.int64)
    for image, mask in zip(val.images, val.masks, strict=True):
        x = normalised(np.array(image))
        h, w = x.shape[1:]
        logits = net(F.pad(x, (0, -w % 32, 0, -h % 32))[None])[..., :h, :w]
        ids = F.interpolate(logits, size=mask.shape, mode="bilinear").max(1).indices
        total += count_pairs(ids, torch.from_numpy(np.array(mask))[None], classes)
    return score(total).miou


def ours(words: list[str], minutes: float, seed: int, threads: int) -> float:
    with tempfile.TemporaryDirectory() as root:
        done = segtune.train(
            *words, "template=swift", "hp=fast", f"trainer.minutes={minutes}", f"seed={seed}",
            f"trainer.threads={threads}", f"tracking.root={root}", "tracking.overlays=0", say=lambda _: None,
        )  # fmt: skip
    return done.miou


def train_one(
    candidate: str, data: str, minutes: float, seed: int, options: argparse.Namespace
) -> float:
    """Val mIoU of one training."""
    torch.set_num_threads(options.threads)
    if candidate == "segtune":
        return ours(DATA[data], minutes, seed, options.threads)
    source = open_source(compose(DATA[data]).config.dataset)
    train, val = (
        load_split(source, "train", [360]),
        load_split(source, "val", [360], stored_masks=True),
    )
    clock = time.process_time if options.cpu else time.monotonic
    seconds = 60 * minutes * (options.threads if options.cpu else 1)
    return validate(
        train_peer(candidate, train, len(source.classes), seconds, clock, seed),
        val,
        len(source.classes),
    )


def table(rows: dict[tuple[str, str, float, int], float]) -> None:
    """Prints what each candidate reached and the gains over it, paired by seed."""
    print(
        "\n| data | minutes | seeds | segtune | peer | the peer's | ours less the peer's, mean and 95 % interval |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for data, minutes, peer in dict.fromkeys((d, m, c) for c, d, m, _ in rows if c != "segtune"):
        pairs = [
            (rows[("segtune", data, minutes, seed)], value)
            for (c, d, m, seed), value in rows.items()
            if (c, d, m) == (peer, data, minutes) and ("segtune", data, minutes, seed) in rows
        ]
        if pairs:
            own, theirs = zip(*pairs, strict=True)
            gains = [100 * (a - b) for a, b in pairs]
            cells = [", ".join(f"{100 * v:.1f}" for v in values) for values in (own, theirs)]
            print(
                f"| {data} | {minutes:g} | {len(pairs)} | {cells[0]} | {peer} | {cells[1]} | {interval(gains)} |"
            )


def interval(gains: list[float]) -> str:
    """Mean with Student's interval; the mean alone of a single one."""
    mean = statistics.mean(gains)
    if len(gains) == 1:
        return f"{mean:+.1f}"
    half = stats.t.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def main() -> None:
    """Trains what is not kept yet, one seed of everything before the next, then prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", nargs="+", default=["camvid", "nuclei", "potholes"], choices=list(DATA)
    )
    parser.add_argument("--minutes", nargs="+", type=float, default=[5, 15])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--peers", nargs="+", default=PEERS, choices=PEERS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu", action="store_true", help="count the peers' CPU seconds, not wall time"
    )
    parser.add_argument(
        "--keep", type=Path, default=Path("peers.jsonl"), help="what is finished, one line each"
    )
    options = parser.parse_args()
    rows = {tuple(key): value for key, value in map(json.loads, read_lines(options.keep))}
    wanted = itertools.product(
        options.seeds, options.minutes, options.data, ["segtune", *options.peers]
    )
    todo = [(c, d, m, s) for s, m, d, c in wanted if (c, d, m, s) not in rows]
    print(
        f"{options.threads} threads, torch {torch.__version__}; {len(rows)} kept in {options.keep}, {len(todo)} to go"
    )
    try:
        for key in todo:
            rows[key] = train_one(*key, options)
            with options.keep.open("a") as file:
                file.write(json.dumps([key, rows[key]]) + "\n")
            print(
                f"{key[0]} on {key[1]}, {key[2]:g} minutes, seed {key[3]}: {100 * rows[key]:.1f}",
                flush=True,
            )
    finally:
        table(rows)


def read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


if __name__ == "__main__":
    main()
