"""Compare segtune with its peers: same data, split, resolution, machine, time and seeds.

    SEGTUNE_DATA=DIR python benchmarks/peers.py --data camvid nuclei potholes --minutes 5 15
        --seeds 0 1 2 [--threads 2]

Finished trainings are kept in a file of JSON lines (--keep): after a stop, the same command
continues. A full run takes twelve hours.

Every candidate trains from scratch (nothing is downloaded) for the same time. The peers get images
that were decoded and resized before the time starts, and are validated once, at the end, on whole
images at the size of their masks. Time is wall time; with --cpu, the time of the peers is the CPU
time of the process. Schedules cover the available time.

segtune       `segtune train dataset=… template=swift hp=fast trainer.minutes=M` with defaults. Its
              minutes include reading, decoding and its validations; it keeps the best one.
smp           segmentation_models.pytorch: the Unet on resnet34 of its quick start, with the recipe
              of its CamVid example (batches of 32, Adam at 2e-4, cosine, Dice loss, flips, shifts,
              zooms, crops of 320), in a Lightning loop.
torchvision   The reference recipe (references/segmentation): DeepLabV3 on MobileNetV3-Large, SGD at
              0.01 with momentum 0.9 and weight decay 1e-4, poly 0.9, batches of 8, zooms of 0.5 to
              2, flips, crops of 480.
adapted       The recipes of smp and torchvision are meant for GPUs; in minutes of a CPU they make
              few steps. This is smp's Unet in an expert's setting for a CPU: resnet18, batches of
              8, crops of 256, smp's shifts and zooms, cross-entropy plus Dice, AdamW at 1e-3 with
              a tenth of warm-up and cosine, in channels_last, and in bf16 if the CPU convolves
              faster in it.
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
from segtune.inference.engines.bf16 import gains_from_bf16
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
    """Convert RGB bytes (H, W, 3) to a normalised float image (3, H, W)."""
    pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    return (pixels - MEAN[:, None, None]) / STD[:, None, None]


class Pairs(Dataset):
    """Decoded pairs, each changed by a view (an augmentation)."""

    def __init__(self, split: Decoded, view: Callable, length: int) -> None:
        self.split, self.view, self.length = split, view, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int):
        place = index % len(self.split)
        image, mask = self.view(self.split.images[place], self.split.masks[place])
        return normalised(image), torch.from_numpy(mask).long()


def crop_to(image, mask, side: int):
    """Crop a random square; a smaller image is padded with ignored pixels."""
    below, right = max(0, side - image.shape[0]), max(0, side - image.shape[1])
    if below or right:
        border = (0, below, 0, right, cv2.BORDER_CONSTANT)
        image = cv2.copyMakeBorder(image, *border, value=(124, 116, 104))
        mask = cv2.copyMakeBorder(mask, *border, value=255)
    y = np.random.randint(image.shape[0] - side + 1)
    x = np.random.randint(image.shape[1] - side + 1)
    rows, columns = slice(y, y + side), slice(x, x + side)
    return np.ascontiguousarray(image[rows, columns]), np.ascontiguousarray(mask[rows, columns])


def smp_view(image, mask, side: int):
    """Flip; with probability 0.5 shift by up to 0.1 and scale by up to 0.5; then crop."""
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
    """A network in training; its learning-rate schedule follows the clock."""

    def __init__(self, net, recipe, clock, seconds) -> None:
        super().__init__()
        self.net, self.recipe = net, recipe
        self.clock, self.seconds, self.started = clock, seconds, clock()

    @property
    def progress(self) -> float:
        return min(1.0, (self.clock() - self.started) / self.seconds)

    def training_step(self, batch, _):
        image, mask = batch
        return self.recipe.loss(self.net(image), mask)

    def on_train_batch_end(self, *_):
        if self.progress >= 1.0:
            self.trainer.should_stop = True

    def configure_optimizers(self):
        optimizer = self.recipe.optimizer(self.net.parameters())
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda _: self.recipe.factor(self.progress)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class TorchvisionNet(nn.Module):
    """The reference network; in training it also returns its auxiliary head."""

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
    """The training of one peer."""

    net: nn.Module
    loss: Callable
    optimizer: Callable
    factor: Callable[[float], float]
    view: Callable
    batch: int
    for_cpu: bool = False  # channels_last, and bf16 if the CPU is faster in it


def recipe_of(name: str, classes: int) -> Recipe:
    dice = smp.losses.DiceLoss("multiclass", ignore_index=255)
    if name == "smp":
        return Recipe(
            net=smp.Unet("resnet34", encoder_weights=None, classes=classes),
            loss=dice,
            optimizer=partial(torch.optim.Adam, lr=2e-4),
            factor=lambda t: 0.5 * (1 + np.cos(np.pi * t)) + 0.05,
            view=partial(smp_view, side=320),
            batch=32,
        )
    if name == "torchvision":

        def both_heads(out, mask):
            main, aux = (F.cross_entropy(o, mask, ignore_index=255) for o in out)
            return main + 0.5 * aux

        return Recipe(
            net=TorchvisionNet(classes),
            loss=both_heads,
            optimizer=partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=1e-4),
            factor=lambda t: (1 - t) ** 0.9,
            view=torchvision_view,
            batch=8,
        )
    return Recipe(
        net=smp.Unet("resnet18", encoder_weights=None, classes=classes),
        loss=lambda out, mask: F.cross_entropy(out, mask, ignore_index=255) + dice(out, mask),
        optimizer=partial(torch.optim.AdamW, lr=1e-3, weight_decay=1e-2),
        factor=lambda t: min(t / 0.1, 0.5 * (1 + np.cos(np.pi * (t - 0.1) / 0.9))),
        view=partial(smp_view, side=256),
        batch=8,
        for_cpu=True,
    )


def train_peer(
    name: str, train: Decoded, classes: int, seconds: float, clock, seed: int
) -> nn.Module:
    pl.seed_everything(seed, verbose=False)
    recipe = recipe_of(name, classes)
    pairs = Pairs(train, recipe.view, max(recipe.batch, len(train)))
    net = recipe.net.to(memory_format=torch.channels_last) if recipe.for_cpu else recipe.net
    module = Peer(net, recipe, clock, seconds)
    bf16 = recipe.for_cpu and gains_from_bf16()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        precision="bf16-mixed" if bf16 else "32-true",
    )
    trainer.fit(module, DataLoader(pairs, recipe.batch, shuffle=True, drop_last=True))
    print(f"{name}: {trainer.global_step} steps of {recipe.batch}", flush=True)
    return net.eval()


@torch.inference_mode()
def validate(net: nn.Module, val: Decoded, classes: int) -> float:
    """Return the mIoU of a split, from one matrix; images are padded to a multiple of 32."""
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
        overrides = ["template=swift", "hp=fast", f"trainer.minutes={minutes}", f"seed={seed}"]
        overrides += [f"trainer.threads={threads}", f"tracking.root={root}", "tracking.overlays=0"]
        result = segtune.train(*words, *overrides, say=lambda _: None)
    return result.miou


def train_one(
    candidate: str, data: str, minutes: float, seed: int, options: argparse.Namespace
) -> float:
    """Train one candidate; return its val mIoU."""
    torch.set_num_threads(options.threads)
    if candidate == "segtune":
        return ours(DATA[data], minutes, seed, options.threads)
    source = open_source(compose(DATA[data]).config.dataset)
    train = load_split(source, "train", [360])
    val = load_split(source, "val", [360], stored_masks=True)
    clock = time.process_time if options.cpu else time.monotonic
    seconds = 60 * minutes * (options.threads if options.cpu else 1)
    net = train_peer(candidate, train, len(source.classes), seconds, clock, seed)
    return validate(net, val, len(source.classes))


def print_table(rows: dict[tuple[str, str, float, int], float]) -> None:
    """Print the mIoU of each candidate, and the gain of segtune, paired by seed.

    Args:
        rows: (candidate, data, minutes, seed) -> val mIoU.
    """
    gain = "segtune - peer, mean and 95 % interval"
    print(f"\n| data | minutes | seeds | segtune | peer | peer's mIoU | {gain} |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    pairs: dict[tuple[str, float, str], list[tuple[float, float]]] = {}
    for (candidate, data, minutes, seed), miou in rows.items():
        ours = rows.get(("segtune", data, minutes, seed))
        if candidate != "segtune" and ours is not None:
            pairs.setdefault((data, minutes, candidate), []).append((ours, miou))
    for (data, minutes, peer), mious in pairs.items():
        own = ", ".join(f"{100 * ours:.1f}" for ours, _ in mious)
        theirs = ", ".join(f"{100 * miou:.1f}" for _, miou in mious)
        gains = [100 * (ours - miou) for ours, miou in mious]
        cells = f"{len(mious)} | {own} | {peer} | {theirs} | {interval(gains)}"
        print(f"| {data} | {minutes:g} | {cells} |")


def interval(gains: list[float]) -> str:
    """Format the mean with Student's 95 % interval; a single gain has no interval."""
    mean = statistics.mean(gains)
    if len(gains) == 1:
        return f"{mean:+.1f}"
    half = stats.t.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def main() -> None:
    """Train the candidates that are not kept yet, seed by seed, then print the table."""
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
        "--keep", type=Path, default=Path("peers.jsonl"), help="finished trainings, one line each"
    )
    options = parser.parse_args()
    rows = {tuple(key): value for key, value in map(json.loads, read_lines(options.keep))}
    candidates = ["segtune", *options.peers]
    trainings = itertools.product(options.seeds, options.minutes, options.data, candidates)
    keys = [(candidate, data, minutes, seed) for seed, minutes, data, candidate in trainings]
    todo = [key for key in keys if key not in rows]
    print(f"{options.threads} threads, torch {torch.__version__}")
    print(f"{len(rows)} finished in {options.keep}, {len(todo)} to go")
    try:
        for key in todo:
            rows[key] = train_one(*key, options)
            with options.keep.open("a") as file:
                file.write(json.dumps([key, rows[key]]) + "\n")
            candidate, data, minutes, seed = key
            training = f"{candidate} on {data}, {minutes:g} minutes, seed {seed}"
            print(f"{training}: {100 * rows[key]:.1f}", flush=True)
    finally:
        print_table(rows)


def read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


if __name__ == "__main__":
    main()
