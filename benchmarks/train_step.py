"""What Lightning, tracking and our own parts add to a training step: the same model in a bare loop and through `fit`.

    python benchmarks/train_step.py [--rounds 5]
    python benchmarks/train_step.py --gpu [--rounds 5] [--nets swift eomt …]

Both train on the built-in street scenes in the same process, make the same batches and run the same loss, optimiser,
schedule and moving average; fit also checkpoints, logs to MLflow and reports. Validation and the first epoch (what is
set up, tuned and compiled once) are left out of both. On a CPU they take turns step by step, 240 steps a round, and the
figure is the median of fit's step over the bare one beside it.

On a GPU one trains after the other, in rounds: swift and eomt at 512x1024, eager and compiled; images per second, and
what the net alone would do if its batch were always there.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
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
from segtune.models.optim.optimizer import build_optimizer, build_scheduler
from segtune.models.probe import StepFormat
from segtune.tasks.segmentation import Segmentation
from segtune.training import epochs as training
from segtune.training.callbacks import BestAndLastCheckpoint
from segtune.training.components import prepare
from segtune.training.fit import fit

SCENES, COPIES = 24, 28  # at 512x1024: distinct ones, and how often an epoch shows each
CAMVID_STEPS = 367 // 16  # of an epoch of camvid_10min


def settings(root: str, epochs: int) -> RunConfig:
    words = ["dataset=street", "template=swift", "trainer=cpu"]
    words += [
        "hp.image_size=[192]",
        "hp.batch_size=8",
        f"hp.num_epochs={epochs}",
        "trainer.ema_decay=0.99",
    ]
    words += [
        "augment.crop_size=192",
        "augment.crop_start=192",
        f"trainer.val_every={epochs}",
        "tracking.overlays=0",
    ]
    return compose([*words, f"tracking.root='{root}'"]).config


def bare_steps(config: RunConfig, compiled: bool = False, fed: bool = True) -> Iterator[int]:
    """The steps of a bare loop, as many as `fit` takes; gives after each the epoch that it was of.

    Args:
        fed: with the loader's batches; else always with the first one, which is on the device already.
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
    same = {k: v.to(device) for k, v in next(iter(loader)).items()}
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for batch in loader if fed else [same] * len(loader):
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
    """Seconds a step of `bare_steps`, from the end of the second epoch's first."""
    torch.use_deterministic_algorithms(False)  # whatever ran before
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
    """The default CPU recipe's step, in the format measured here, against one that does without all that.

    That is the same net in fp32, contiguous, with the loss at full resolution.
    """
    print(
        "\n| crop | fp32, contiguous, full-resolution loss, ms | default recipe, ms | ratio (target 0.40) | in |"
    )
    print("| --- | --- | --- | --- | --- |")
    for height, width in ((256, 256), (360, 480)):
        image = torch.randint(0, 256, (8, height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
        mask = (
            torch.randint(0, 11, (8, height // 8, width // 8))
            .repeat_interleave(8, 1)
            .repeat_interleave(8, 2)
        )
        batch = {"image": image, "mask": mask.to(torch.uint8)}
        config = compose(["template=swift"]).config
        measured = Segmentation().step_format(
            config, 11, (8, 3, height, width), torch.device("cpu")
        )
        steps = {}
        for name, stride, how in (
            ("plain", 1, StepFormat(False, False)),
            ("default", config.loss.stride, measured),
        ):
            settings = config.loss.model_copy(update={"stride": stride})
            model = build(config.template["model"], 11).to(memory_format=how.memory_format).train()
            loss = SegmentationLoss(settings, [1 / 11] * 11)
            optimizer = build_optimizer(config.optimizer, model, 1e-3, bf16=how.bf16)
            steps[name] = (model, loss, optimizer, how.bf16)
        times: dict[str, list[float]] = {"plain": [], "default": []}
        for _ in range(rounds + 1):
            for name, (model, loss, optimizer, bf16) in steps.items():
                started = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    value = Segmentation().loss_of(model, loss, batch)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                times[name].append(time.perf_counter() - started)
        plain, default = (statistics.median(times[n][1:]) for n in ("plain", "default"))
        ratio = statistics.median(
            b / a for a, b in zip(times["plain"][1:], times["default"][1:], strict=True)
        )
        print(
            f"| {height}x{width} | {1e3 * plain:.0f} | {1e3 * default:.0f} | {ratio:.2f} | {measured} |",
            flush=True,
        )


def in_turn(config: RunConfig) -> list[tuple[int, float, float]]:
    """Epoch, fit's seconds and the bare loop's of each step; they take turns, so that both meet the same machine.

    Fit's share has whatever it does between two of its steps, from one epoch to the next one as well. Memory that a
    step frees is kept for both; the bare loop need not be deterministic.
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
    epochs = [[r[1:] for r in rows if r[0] == e] for e in sorted({r[0] for r in rows})]
    within = [pair for epoch in epochs for pair in epoch[2:]]
    fit_step, bare_step = (statistics.median(p[i] for p in within) for i in range(2))
    # a checkpoint is written beside the next steps, whoever takes them: what those take longer is fit's as well
    seam = statistics.fmean(sum(map(sum, epoch[:2])) for epoch in epochs) - 2 * (
        fit_step + bare_step
    )
    ratios = [ours / bare for ours, bare in within]
    low, high = bootstrap(
        (ratios,), np.median, n_resamples=2000, method="percentile"
    ).confidence_interval
    middle = statistics.median(ratios)
    whole = middle + seam / (CAMVID_STEPS * bare_step)
    print(f"bare loop {1e3 * bare_step:.1f} ms a step, fit {1e3 * fit_step:.1f}")
    print(f"fit / bare, median of {len(ratios)} steps: {middle:.3f} ({low:.3f} to {high:.3f})")
    print(
        f"{1e3 * seam:.0f} ms more an epoch; with them, at {CAMVID_STEPS} steps, {whole:.3f} (target 1.01)"
    )


def through_fit(config: RunConfig) -> float:
    """Seconds a step, from the end of the first epoch to the last one's validation."""
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
    """Median seconds a step of both, and fit's share of the bare loop's in each round."""
    compiled = config.trainer.compile
    pairs = []
    for number in range(rounds):
        # alternately first: a machine that slows down favours whoever starts
        if number % 2 == 0:
            bare, ours = bare_loop(config, compiled), through_fit(config)
        else:
            ours, bare = through_fit(config), bare_loop(config, compiled)
        pairs.append((bare, ours))
    bare, ours = (statistics.median(p[i] for p in pairs) for i in range(2))
    return bare, ours, [b / a for a, b in pairs]


def scenes(folder: Path) -> list[str]:
    """Words for a folder of street scenes of 512x1024, each under many names."""
    config = compose(["dataset=street", "template=swift", *(f"dataset.street.{k}={v}" for k, v in {
        "width": 1024, "height": 512, "train": SCENES, "val": 2, "test": 2, "clips": 0}.items())]).config  # fmt: skip
    source = open_source(config.dataset)
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
    print(
        f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, torch {torch.__version__}; batches of {batch}\n"
    )
    print(
        "| net | bare loop, images/s | fit, images/s | fit / bare (target 0.97) | the net alone, images/s | GiB |"
    )
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
            print(
                f"| {name} | {batch / bare:.0f} | {batch / ours:.0f} | {1 / statistics.median(ratios):.3f} "
                f"({1 / max(ratios):.3f} to {1 / min(ratios):.3f}) | {batch / alone:.0f} "
                f"| {torch.cuda.max_memory_reserved() / 2**30:.1f} |", flush=True,
            )  # fmt: skip


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
