"""Measure how much a sweep saves against random search, and against trials in batches.

    python benchmarks/sweep_efficiency.py compute [--data street|camvid] [--seeds 3]
        [--trials 16] [--epochs 9]
    python benchmarks/sweep_efficiency.py scheduling [--seeds 20]

`compute`: random search without pruning trains every trial to its end. TPE with successive halving
has the same space and at most the same number of epochs. The table shows after how many epochs it
first reaches the best mIoU of random search.

`scheduling` simulates four workers, with learning curves in place of training and a simulated
clock. Trials differ in length. It compares TPE that waits for each batch of four trials and prunes
none (as Hydra's Optuna sweeper does) with our study, whose workers pull trials.
"""

import argparse
import heapq
import math
import random
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import optuna

from segtune.config.compose import compose
from segtune.runtime.signals import StopRequest
from segtune.sweeping.dimensions import SweepDimension
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.trial import run_trial
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.store import open_store

optuna.logging.set_verbosity(optuna.logging.ERROR)
EPOCHS, WORKERS = 9, 4  # of the simulated sweeps
SCENES = "{width:128,height:96,train:64,val:24,test:2,clips:1,clip_frames:2}"
SMALL = {
    "street": ["dataset=street", f"dataset.street={SCENES}", "hp.image_size=[96]"],
    "camvid": ["dataset=camvid", "hp.image_size=[96]", "trainer.limit_train_batches=12"],
}
SEARCH = {
    "hp.per_item_lrate": {"min": 1e-5, "max": 3e-2, "log": True},
    "optimizer": ["muon", "adamw", "sgd"],
    "loss": ["ce", "ce_dice", "ce_lovasz"],
}


def compute(data: str, seeds: range, trials: int, epochs: int) -> None:
    headers = (
        "random search: mIoU | epochs | TPE with halving: reaches it after | share | final mIoU"
    )
    print(f"\n| {data}, seed | {headers} |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    shares = []
    for seed in seeds:
        common = {"seed": seed, "pruner_warmup": 1, "search": SEARCH}
        words = [*SMALL[data], f"hp.num_epochs={epochs}", f"seed={seed}"]
        by_chance = SweepSpec(
            name="random",
            sampler="random",
            pruner="none",
            n_trials=trials,
            overrides=words,
            **common,
        )
        halving = SweepSpec(
            name="tpe",
            sampler="tpe",
            pruner="halving",
            n_trials=20 * trials,
            overrides=words,
            **common,
        )
        baseline = search(by_chance)
        result = search(halving, limit=trials * epochs, target=baseline.miou)
        reached = f"not within {result.epochs} epochs | -"
        shares.append(math.inf)
        if result.miou >= baseline.miou:
            shares[-1] = result.epochs / baseline.epochs
            reached = f"{result.epochs} epochs | {shares[-1]:.2f}"
        cells = f"{100 * baseline.miou:.1f} | {baseline.epochs} | {reached}"
        print(f"| {seed} | {cells} | {100 * result.miou:.1f} |", flush=True)
    low, middle, high = min(shares), statistics.median(shares), max(shares)
    print(f"Share of the epochs: median {middle:.2f} ({low:.2f} to {high:.2f}), target 1/3")


@dataclass(frozen=True)
class SearchResult:
    """Best val mIoU of a search, and the epochs that it used."""

    miou: float
    epochs: int


def search(spec: SweepSpec, limit: float = math.inf, target: float = math.inf) -> SearchResult:
    """Run trials until none is left, `limit` epochs are used, or the best mIoU reaches `target`."""
    with tempfile.TemporaryDirectory() as root:
        words = ["template=swift", "trainer=cpu", "augment=light", "hp.width=16", "hp.batch_size=8"]
        words += ["trainer.threads=1", "tracking.overlays=0", f"tracking.root={root}"]
        spec = spec.model_copy(update={"overrides": [*spec.overrides, *words]})
        store = open_store(compose(spec.overrides).config.tracking)
        parent = RunWriter.create(store, spec.name, {}, {}).run_id
        space, study = build_space(spec), SweepStudy(Path(root) / "sweeps" / spec.name, spec)
        epochs, best = 0, 0.0
        while epochs < limit and best < target:
            claim = study.claim(space)
            if claim is None:
                break
            run_trial(study, claim, parent, 1, StopRequest(), lambda _: None)
            trial = study.study.get_trials(deepcopy=False)[claim.trial.number]
            epochs += len(trial.intermediate_values) or 1
            best = max(best, trial.value or 0.0)
    return SearchResult(best, epochs)


class Curve:
    """A noisy learning curve; curves differ in final mIoU, speed, and seconds per epoch."""

    def __init__(self, x: dict[str, float], seed: int) -> None:
        rng = random.Random(f"{sorted(x.items())} {seed}")
        distance = sum((x[f"hp.x{n}"] - 0.3 - 0.1 * n) ** 2 for n in range(4))
        self.final = 0.7 * math.exp(-2 * distance) + rng.gauss(0, 0.005)
        self.epochs_to_63_percent = rng.lognormvariate(math.log(3), 0.3)
        self.seconds = rng.lognormvariate(0.0, 0.6)  # per epoch
        self.noise = [rng.gauss(0, 0.01) for _ in range(EPOCHS)]

    def miou(self, epoch: int) -> float:
        share = 1 - math.exp(-(epoch + 1) / self.epochs_to_63_percent)
        return self.final * share + self.noise[epoch]


SPACE = Space((), ("swift",), tuple(SweepDimension(f"hp.x{n}", f"hp.x{n}") for n in range(4)))


def scheduling(seeds: int, trials: int) -> None:
    shares, waits = [], []
    for seed in range(seeds):
        target, batch_seconds = in_batches(seed, trials)
        shares.append(pulling(seed, 20 * trials, "halving", target) / batch_seconds)
        waits.append(pulling(seed, trials, "none", math.inf) / batch_seconds)
    title = f"{WORKERS} workers, {trials} trials in batches, {seeds} seeds"
    print(f"\n| {title} | median | least | most | target |")
    print("| --- | --- | --- | --- | --- |")
    for name, values, limit in (
        ("time for pulling with halving to reach the best of the batches", shares, "0.50"),
        ("time of the same number of pulled trials without pruning", waits, "-"),
    ):
        cells = (f"{v:.2f}" for v in (statistics.median(values), min(values), max(values)))
        print(f"| {name} | {' | '.join(cells)} | {limit} |")


def in_batches(seed: int, trials: int) -> tuple[float, float]:
    """Return the best value and the wall time of trials that wait for their batch."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    ranges = {d.param: optuna.distributions.FloatDistribution(0, 1) for d in SPACE.dimensions}
    wall = 0.0
    for _ in range(trials // WORKERS):
        batch = [study.ask(ranges) for _ in range(WORKERS)]
        curves = [Curve(t.params, seed) for t in batch]
        for trial, curve in zip(batch, curves, strict=True):
            study.tell(trial, curve.miou(EPOCHS - 1))
        wall += max(c.seconds for c in curves) * EPOCHS
    return study.best_value, wall


def pulling(seed: int, trials: int, pruner: str, target: float) -> float:
    """Return the wall time until a finished trial reaches the target, or until all have ended."""
    with tempfile.TemporaryDirectory() as root:
        spec = SweepSpec(
            name="s",
            n_trials=trials,
            seed=seed,
            pruner=pruner,
            pruner_warmup=1,
            search={"hp.width": {}},
        )
        study = SweepStudy(Path(root), spec)
        events: list[tuple[float, int, int, object, Curve]] = []
        now = 0.0

        def begin(worker: int) -> None:
            claim = study.claim(SPACE)
            if claim is not None:
                curve = Curve(claim.trial.params, seed)
                heapq.heappush(events, (now + curve.seconds, worker, 0, claim.trial, curve))

        for worker in range(WORKERS):
            begin(worker)
        while events:
            now, worker, epoch, trial, curve = heapq.heappop(events)
            trial.report(curve.miou(epoch), epoch)
            if epoch + 1 == EPOCHS:
                study.finish(trial, curve.miou(epoch))
                if curve.miou(epoch) >= target:
                    return now
                begin(worker)
            elif trial.should_prune():
                study.finish(trial, state=optuna.trial.TrialState.PRUNED)
                begin(worker)
            else:
                heapq.heappush(events, (now + curve.seconds, worker, epoch + 1, trial, curve))
    return now


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("question", choices=["compute", "scheduling"])
    parser.add_argument("--data", default="street", choices=sorted(SMALL))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=9)
    options = parser.parse_args()
    if options.question == "compute":
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        compute(options.data, seeds, options.trials, options.epochs)
    else:
        scheduling(options.seeds, options.trials)
