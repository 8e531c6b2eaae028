"""Compare a training step of `fit` with a bare loop: the cost of Lightning, tracking and hooks.

    python benchmarks/train_step.py [--rounds 5]
    python benchmarks/train_step.py --gpu [--rounds 5] [--nets swift eomt …]

Both train the same model on the built-in street scenes in the same process, with the same batches,
loss, optimiser, schedule and moving average; fit also writes checkpoints, logs to MLflow and prints
progress. Validation and the first epoch (with its set-up, tuning and compilation) do not count.

On a CPU both take turns step by step, 240 steps in a round. The result is the median ratio of a
step of fit to the step of the bare loop beside it.

On a GPU one trains after the other, in rounds: swift and eomt at 512x1024, eager and compiled. The
table shows images per second, also for the net alone on a batch that is always there.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.stats import bootstrap
from timm.utils import ModelEmaV3

from segtune.config.compose import compose
from segtune.config.schema import RunConfig
from segtune.data.batches.cache import load_split
from segtune.data.batches.datamodule import LoaderOptions, SegmentationData
from segtune.data.sources import open_source
from segtune.models.build import build
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.optim.optimizer import build_optimizer
from segtune.models.optim.schedule import build_scheduler
from segtune.models.probe import StepFormat
from segtune.tasks.segmentation import Segmentation
from segtune.training import epochs as training
from segtune.training.callbacks import BestAndLastCheckpoint
from segtune.training.components import prepare
from segtune.training.fit import fit

SCENES, COPIES = 24, 28  # at 512x1024: distinct scenes, and copies of each in an epoch
CAMVID_STEPS = 367 // 16  # in an epoch of camvid_10min


def settings(root: str, epochs: int) -> RunConfig:
    words = ["dataset=street", "template=swift", "trainer=cpu", "trainer.ema_decay=0.99"]
    words += ["hp.image_size=[192]", "hp.batch_size=8", f"hp.num_epochs={epochs}"]
    words += ["augment.crop_size=192", "augment.crop_start=192", f"trainer.val_every={epochs}"]
    return compose([*words, "tracking.overlays=0", f"tracking.root='{root}'"]).config


def bare_steps(config: RunConfig, compiled: bool = False, fed: bool = True) -> Iterator[int]:
    """Run a bare loop with the number of steps of `fit`; yield the epoch after each step.

    Args:
        fed: take the batches of the loader; else always the first one, which is on the device.
    """
    components = prepare(config, lambda _: None)
    device, bf16 = components.device, components.step_format.bf16
    options = LoaderOptions(components.step_size, config.seed, components.workers)
    data = SegmentationData(components.train, components.val, components.augment, options)
    model: Any = components.training_copy()
    loss = SegmentationLoss(config.loss, components.class_shares).to(device)
    optimizer = build_optimizer(config.optimizer, model, components.lr, bf16=bf16)
    loader = data.train_dataloader()
    loader.pin_memory = device.type == "cuda"
    epochs = int(config.hp["num_epochs"])
    scheduler = build_scheduler(config.scheduler, optimizer, epochs * len(loader))
    ema = ModelEmaV3(model, decay=config.trainer.ema_decay, use_warmup=True)
    if compiled:
        model.compile()
    steps = 0
    first_batch = {k: v.to(device) for k, v in next(iter(loader)).items()}
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for batch in loader if fed else [first_batch] * len(loader):
            batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
            model.advance(steps / (epochs * len(loader)))
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                value = components.task.loss_of(model, loss, batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            scheduler.step()
            steps += 1
            ema.update(model, step=steps)
            yield epoch


def bare_loop(config: RunConfig, compiled: bool = False, fed: bool = True) -> float:
    """Return the seconds per step of `bare_steps`, after the first step of the second epoch."""
    torch.use_deterministic_algorithms(False)  # an earlier training may have set it
    steps, started = 0, 0.0
    for epoch in bare_steps(config, compiled, fed):
        if epoch == 0:
            continue
        if not started:
            wait()
            started = time.perf_counter()
        else:
            steps += 1
    wait()
    return (time.perf_counter() - started) / steps


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def step_costs(rounds: int) -> None:
    """Compare the step of the default CPU recipe with a plain step of the same net.

    The plain step runs in fp32, contiguous, with the loss at full resolution.
    """
    print("\n| crop | plain step, ms | default recipe, ms | ratio (target 0.40) | format |")
    print("| --- | --- | --- | --- | --- |")
    config = compose(["template=swift"]).config
    for height, width in ((256, 256), (360, 480)):
        batch = random_batch(height, width)
        shape = (8, 3, height, width)
        measured = Segmentation().step_format(config, 11, shape, torch.device("cpu"))
        steps = {
            "plain": make_step(config, 1, StepFormat(False, False), batch),
            "default": make_step(config, config.loss.stride, measured, batch),
        }
        times: dict[str, list[float]] = {"plain": [], "default": []}
        for _ in range(rounds + 1):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                times[name].append(time.perf_counter() - started)
        plain, default = times["plain"][1:], times["default"][1:]
        ratio = statistics.median(b / a for a, b in zip(plain, default, strict=True))
        cells = " | ".join(
            f"{1e3 * statistics.median(seconds):.0f}" for seconds in (plain, default)
        )
        print(f"| {height}x{width} | {cells} | {ratio:.2f} | {measured} |", flush=True)


def random_batch(height: int, width: int) -> dict[str, torch.Tensor]:
    """Return 8 images and masks of 11 classes, in cells of 8x8 pixels."""
    image = torch.randint(0, 256, (8, height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    cells = torch.randint(0, 11, (8, height // 8, width // 8))
    mask = cells.repeat_interleave(8, 1).repeat_interleave(8, 2).to(torch.uint8)
    return {"image": image, "mask": mask}


def make_step(
    config: RunConfig, stride: int, step_format: StepFormat, batch: dict[str, torch.Tensor]
) -> Callable[[], None]:
    """Return a function that runs one training step on a new model."""
    model = build(config.template["model"], 11).to(memory_format=step_format.memory_format).train()
    loss = SegmentationLoss(config.loss.model_copy(update={"stride": stride}), [1 / 11] * 11)
    optimizer = build_optimizer(config.optimizer, model, 1e-3, bf16=step_format.bf16)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=step_format.bf16):
            value = Segmentation().loss_of(model, loss, batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


def in_turn(config: RunConfig) -> list[tuple[int, float, float]]:
    """Let fit and a bare loop take turns; return (epoch, seconds of fit, seconds of the bare loop).

    The time of fit includes all work between two steps, also between two epochs. The process keeps
    the memory that a step frees, for both. Only fit has to be deterministic.
    """
    bare = bare_steps(config)
    rows: list[tuple[int, float, float]] = []

    class Turns(BestAndLastCheckpoint):
        resumed = 0.0

        def on_train_batch_end(self, trainer, *rest):
            super().on_train_batch_end(trainer, *rest)
            stopped = time.perf_counter()
            torch.use_deterministic_algorithms(False)
            next(bare)
            torch.use_deterministic_algorithms(True)
            resumed = time.perf_counter()
            rows.append((trainer.current_epoch, stopped - self.resumed, resumed - stopped))
            self.resumed = resumed

    training.BestAndLastCheckpoint = Turns
    try:
        fit(config)
    finally:
        training.BestAndLastCheckpoint = BestAndLastCheckpoint
    return [row for row in rows if row[0] > 0]


def on_cpu(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        rows = in_turn(settings(root, 1 + 8 * rounds))
    epochs: dict[int, list[tuple[float, float]]] = {}
    for epoch, ours, bare in rows:
        epochs.setdefault(epoch, []).append((ours, bare))
    # a thread writes a checkpoint during the first two steps of an epoch and slows both down: this
    # time belongs to fit
    starts = [sum(map(sum, pairs[:2])) for pairs in epochs.values()]
    later_steps = list(itertools.chain.from_iterable(pairs[2:] for pairs in epochs.values()))
    fit_step, bare_step = map(statistics.median, zip(*later_steps, strict=True))
    epoch_cost = statistics.fmean(starts) - 2 * (fit_step + bare_step)
    ratios = [ours / bare for ours, bare in later_steps]
    interval = bootstrap((ratios,), np.median, n_resamples=2000, method="percentile")
    low, high = interval.confidence_interval
    middle = statistics.median(ratios)
    total = middle + epoch_cost / (CAMVID_STEPS * bare_step)
    print(f"bare loop {1e3 * bare_step:.1f} ms per step, fit {1e3 * fit_step:.1f}")
    print(f"fit / bare, median of {len(ratios)} steps: {middle:.3f} ({low:.3f} to {high:.3f})")
    print(f"{1e3 * epoch_cost:.0f} ms more per epoch")
    print(f"fit / bare with this, at {CAMVID_STEPS} steps per epoch: {total:.3f} (target 1.01)")


def through_fit(config: RunConfig) -> float:
    """Return the seconds per step of fit, from the second epoch to the last validation."""
    marks: list[tuple[float, int]] = []

    class Clock(BestAndLastCheckpoint):
        def on_train_epoch_start(self, trainer, module):
            super().on_train_epoch_start(trainer, module)
            if trainer.current_epoch == 1:
                wait()
                marks.append((time.perf_counter(), trainer.global_step))

        def on_validation_start(self, trainer, module):
            wait()
            marks.append((time.perf_counter(), trainer.global_step))

    training.BestAndLastCheckpoint = Clock
    try:
        fit(config)
    finally:
        training.BestAndLastCheckpoint = BestAndLastCheckpoint
    (started, before), (ended, after) = marks
    return (ended - started) / (after - before)


def side_by_side(config: RunConfig, rounds: int) -> tuple[float, float, list[float]]:
    """Return the median seconds per step of both loops, and the ratio bare / fit of each round."""
    compiled = config.trainer.compile
    pairs = []
    for number in range(rounds):
        # they start by turns: a machine that slows down favours the first one
        if number % 2 == 0:
            bare, ours = bare_loop(config, compiled), through_fit(config)
        else:
            ours, bare = through_fit(config), bare_loop(config, compiled)
        pairs.append((bare, ours))
    bare, ours = map(statistics.median, zip(*pairs, strict=True))
    return bare, ours, [b / a for a, b in pairs]


def scenes(folder: Path) -> list[str]:
    """Write street scenes of 512x1024, each under many names; return the words for the dataset."""
    street = f"{{width:1024,height:512,train:{SCENES},val:2,test:2,clips:0}}"
    words = ["dataset=street", "template=swift", f"dataset.street={street}"]
    source = open_source(compose(words).config.dataset)
    for split, copies in (("train", COPIES), ("val", 1)):
        decoded = load_split(source, split, [512])
        for kind, arrays in (("images", decoded.images), ("masks", decoded.masks)):
            place = folder / kind / split
            place.mkdir(parents=True)
            for number, array in enumerate(arrays):
                cv2.imwrite(
                    str(place / f"{number}_0.png"), array[..., ::-1] if array.ndim == 3 else array
                )
                for copy in range(1, copies):
                    os.link(place / f"{number}_0.png", place / f"{number}_{copy}.png")
    return [
        "dataset=folder",
        f"dataset.root='{folder}'",
        f"dataset.classes=[{','.join(source.classes.names)}]",
    ]


NETS = {
    "swift": ["template=swift"],
    "eomt": [
        "template=eomt",
        "hp.encoder=vit_small_patch14_reg4_dinov2",
        "hp.pretrained_weights=none",
    ],
}
NETS |= {f"{name}-compiled": [*words, "trainer.compile=true"] for name, words in NETS.items()}
NETS |= {"swift-deterministic": [*NETS["swift"], "trainer.deterministic=true"]}


def on_gpu(rounds: int, nets: list[str], batch: int = 16) -> None:
    print(f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(f"batches of {batch}\n")
    speeds = "bare loop, images/s | fit, images/s | fit / bare (target 0.97) | net alone, images/s"
    print(f"| net | {speeds} | GiB |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as root:
        words = [
            *scenes(Path(root) / "scenes"),
            "trainer=gpu",
            "hp.image_size=[512]",
            f"hp.batch_size={batch}",
        ]
        words += [
            "hp.num_epochs=2",
            "trainer.val_every=2",
            "trainer.ema_decay=0.99",
            "tracking.overlays=0",
        ]
        words += ["augment.scale=[0.5,2.0]", "augment.crop_size=null", "augment.crop_start=null"]
        for name in nets:
            config = compose([*NETS[name], *words, f"tracking.root='{root}'"]).config
            torch.cuda.reset_peak_memory_stats()
            bare, ours, ratios = side_by_side(config, rounds)
            alone = bare_loop(config, config.trainer.compile, fed=False)
            ratio = f"{1 / statistics.median(ratios):.3f}"
            span = f"({1 / max(ratios):.3f} to {1 / min(ratios):.3f})"
            cells = (
                f"{batch / bare:.0f} | {batch / ours:.0f} | {ratio} {span} | {batch / alone:.0f}"
            )
            memory = torch.cuda.max_memory_reserved() / 2**30
            print(f"| {name} | {cells} | {memory:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), help="on a GPU")
    options = parser.parse_args()
    if options.gpu:
        on_gpu(options.rounds, options.nets)
        return
    step_costs(options.rounds)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    on_cpu(options.rounds)


if __name__ == "__main__":
    main()
