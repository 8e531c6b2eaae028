"""What Lightning, tracking and our own parts add to a training step: the same model in a bare loop and through `fit`.

python benchmarks/train_step.py [--rounds 5]

Both train swift on the built-in street scenes in the same process, one after the other, in rounds; the figure is the
median over the rounds of fit's time per step over the bare loop's. Both take their batches from the same data module,
run the same loss, optimiser, schedule and moving average; fit also checkpoints, logs to MLflow and reports.
Validation is left out of both.
"""

import argparse
import statistics
import tempfile
import time

import torch
from timm.utils import ModelEmaV3

from segtune.config import compose
from segtune.data.cache import load_split
from segtune.data.datamodule import SegmentationData
from segtune.data.sources import open_source
from segtune.kinds import Segmenters
from segtune.models.build import build
from segtune.models.losses import SegmentationLoss
from segtune.models.optim import build_optimizer, build_scheduler
from segtune.settings import RunConfig
from segtune.setup import build_augment
from segtune.training import fit

EPOCHS = 4


def settings(root: str) -> RunConfig:
    words = ["dataset=street", "template=swift", "trainer=cpu", "trainer.precision=bf16", "trainer.channels_last=true"]
    words += ["hp.image_size=[192]", "hp.batch_size=8", f"hp.num_epochs={EPOCHS}", "trainer.ema_decay=0.99"]
    words += ["augment.crop_size=192", "augment.crop_start=192", f"trainer.val_every={EPOCHS}", "tracking.overlays=0"]
    return compose([*words, f"tracking.root='{root}'"]).config


def bare_loop(config: RunConfig) -> float:
    """Seconds a step."""
    source = open_source(config.dataset)
    train = load_split(source, "train", config.hp["image_size"])
    val = load_split(source, "val", config.hp["image_size"], stored_masks=True)
    data = SegmentationData(
        train, val, build_augment(config, train, len(source.classes)), config.hp["batch_size"], config.seed
    )
    model = build(config.template["model"], len(source.classes)).to(memory_format=torch.channels_last).train()
    loss = SegmentationLoss(config.loss, train.class_shares(len(source.classes)))
    optimizer = build_optimizer(config.optimizer, model, config.hp["batch_size"] * config.hp["per_item_lrate"])
    loader = data.train_dataloader()
    scheduler = build_scheduler(config.scheduler, optimizer, EPOCHS * len(loader))
    ema = ModelEmaV3(model, decay=0.99, use_warmup=True)
    stride, steps = config.loss.stride, 0
    started = time.perf_counter()
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(batch["image"], stride=stride)
                value = loss(logits, batch["mask"][:, stride // 2 :: stride, stride // 2 :: stride])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            scheduler.step()
            steps += 1
            ema.update(model, step=steps)
    return (time.perf_counter() - started) / steps


def step_costs(rounds: int) -> None:
    """The default CPU recipe's step against the same net in fp32, contiguous, with the loss at full resolution."""
    print("\n| crop | fp32, contiguous, full-resolution loss, ms | default recipe, ms | ratio (target 0.40) |")
    print("| --- | --- | --- | --- |")
    for height, width in ((256, 256), (360, 480)):
        image = torch.randint(0, 256, (8, height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
        mask = torch.randint(0, 11, (8, height // 8, width // 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
        batch = {"image": image, "mask": mask.to(torch.uint8)}
        config = compose(["template=swift"]).config
        steps = {}
        for name, stride in (("plain", 1), ("default", config.loss.stride)):
            settings = config.loss.model_copy(update={"stride": stride})
            memory_format = torch.contiguous_format if stride == 1 else torch.channels_last
            model = build(config.template["model"], 11).to(memory_format=memory_format).train()
            loss = SegmentationLoss(settings, [1 / 11] * 11)
            optimizer = build_optimizer(config.optimizer, model, 1e-3)
            steps[name] = (model, loss, optimizer, stride > 1)
        times: dict[str, list[float]] = {"plain": [], "default": []}
        for _ in range(rounds + 1):
            for name, (model, loss, optimizer, bf16) in steps.items():
                started = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    value = Segmenters().loss_of(model, loss, batch)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                times[name].append(time.perf_counter() - started)
        plain, default = (statistics.median(times[n][1:]) for n in ("plain", "default"))
        ratio = statistics.median(b / a for a, b in zip(times["plain"][1:], times["default"][1:], strict=True))
        print(f"| {height}x{width} | {1e3 * plain:.0f} | {1e3 * default:.0f} | {ratio:.2f} |", flush=True)


def through_fit(config: RunConfig) -> float:
    """Seconds a step, from the start of the first epoch to the last one's validation."""
    from segtune.callbacks import Keeper

    marks: list[float] = []

    class Clock(Keeper):
        def on_train_start(self, *_):
            marks.append(time.perf_counter())

        def on_validation_start(self, *_):
            marks.append(time.perf_counter())

        def on_train_batch_end(self, trainer, *rest):
            super().on_train_batch_end(trainer, *rest)
            self.steps = trainer.global_step
            Clock.total = trainer.global_step

    import segtune.training as training

    training.Keeper = Clock
    try:
        fit(config)
    finally:
        training.Keeper = Keeper
    return (marks[1] - marks[0]) / Clock.total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    step_costs(rounds)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| round | bare loop, ms a step | fit, ms a step | ratio |\n| --- | --- | --- | --- |")
    ratios = []
    with tempfile.TemporaryDirectory() as root:
        config = settings(root)
        bare_loop(config)  # warm
        for number in range(rounds):
            # alternately first: a machine that slows down favours whoever starts
            first, second = (bare_loop, through_fit) if number % 2 == 0 else (through_fit, bare_loop)
            times = {first: first(config), second: second(config)}
            ratios.append(times[through_fit] / times[bare_loop])
            print(f"| {number} | {1000 * times[bare_loop]:.1f} | {1000 * times[through_fit]:.1f} | {ratios[-1]:.3f} |")
    print(f"\nmedian {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
