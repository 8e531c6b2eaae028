"""How much compute and time a sweep saves, against random search and against trials that are launched in batches.

    python benchmarks/sweep_efficiency.py compute [--data street|camvid] [--seeds 3] [--trials 16] [--epochs 9]
    python benchmarks/sweep_efficiency.py scheduling [--seeds 20]

`compute`: random search without pruning trains every trial to its end. TPE with successive halving gets the same space
and at most as many epochs; the table gives how many it had used when it first had what random search came to.

`scheduling`: four workers, trials that differ in length, a learning curve instead of training, and a clock that is
counted instead of waited for. TPE that waits for each batch of four and knows no pruning (what Hydra's sweeper does)
against the sweep's own study, whose workers pull.
"""

import argparse
import heapq
import math
import random
import statistics
import tempfile
from pathlib import Path

import optuna

from segtune.config.compose import compose
from segtune.runtime.signals import StopRequest
from segtune.sweeping.dimensions import Dimension
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.study import SweepStudy
from segtune.sweeping.trial import run_trial
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.store import open_store

optuna.logging.set_verbosity(optuna.logging.ERROR)
EPOCHS, WORKERS = 9, 4  # of the simulated sweeps
SMALL = {
    "street": ["dataset=street", "dataset.street={width:128,height:96,train:64,val:24,test:2,clips:1,clip_frames:2}",
               "hp.image_size=[96]"],
    "camvid": ["dataset=camvid", "hp.image_size=[96]", "trainer.limit_train_batches=12"],
}  # fmt: skip
SEARCH = {
    "hp.per_item_lrate": {"min": 1e-5, "max": 3e-2, "log": True},
    "optimizer": ["muon", "adamw", "sgd"],
    "loss": ["ce", "ce_dice", "ce_lovasz"],
}


def compute(data: str, seeds: range, trials: int, epochs: int) -> None:
    print(
        f"\n| {data}, seed | random search: mIoU | epochs | TPE with halving: had it after | of all | mIoU at its end |"
    )
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    shares = []
    for seed in seeds:
        target, spent, _ = search(data, seed, "random", "none", trials, epochs, math.inf)
        final, used, reached = search(
            data, seed, "tpe", "halving", 20 * trials, epochs, trials * epochs, target
        )
        shares.append(reached / spent if reached else math.inf)
        had = f"{reached} epochs | {shares[-1]:.2f}" if reached else f"not within {used} epochs | -"
        print(f"| {seed} | {100 * target:.1f} | {spent} | {had} | {100 * final:.1f} |", flush=True)
    low, middle, high = min(shares), statistics.median(shares), max(shares)
    print(f"Share of the epochs: median {middle:.2f} ({low:.2f} to {high:.2f}), target 1/3")


def search(
    data: str,
    seed: int,
    sampler: str,
    pruner: str,
    trials: int,
    epochs: int,
    limit: float,
    target: float = math.inf,
) -> tuple[float, int, int | None]:
    """Best mIoU, epochs used, and epochs used when `target` was first reached; ends there."""
    with tempfile.TemporaryDirectory() as root:
        overrides = [*SMALL[data], "template=swift", "trainer=cpu", "augment=light", "hp.width=16", "hp.batch_size=8",
                     "trainer.threads=1", f"hp.num_epochs={epochs}", f"seed={seed}", "tracking.overlays=0",
                     f"tracking.root={root}"]  # fmt: skip
        spec = SweepSpec(name="s", n_trials=trials, seed=seed, sampler=sampler, pruner=pruner, pruner_warmup=1,
                         overrides=overrides, search=SEARCH)  # fmt: skip
        store = open_store(compose(spec.overrides).config.tracking)
        parent = RunWriter.create(store, "s", {}, {}).run_id
        space, study = build_space(spec), SweepStudy(Path(root) / "sweeps" / "s", spec)
        used, best, reached = 0, 0.0, None
        while used < limit and (claim := study.claim(space)) is not None:
            run_trial(study, claim, space, parent, 1, StopRequest(), lambda _: None)
            trial = study.study.get_trials(deepcopy=False)[claim.trial.number]
            used += len(trial.intermediate_values) or 1
            if trial.value is not None:
                best = max(best, trial.value)
            if reached is None and best >= target:
                reached = used
                break
    return best, used, reached


class Curve:
    """A noisy learning curve: trials differ in where they end, how fast they get there, and in seconds per epoch."""

    def __init__(self, x: dict[str, float], seed: int) -> None:
        dice = random.Random(f"{sorted(x.items())} {seed}")
        distance = sum((x[f"hp.x{n}"] - 0.3 - 0.1 * n) ** 2 for n in range(4))
        self.top = 0.7 * math.exp(-2 * distance) + dice.gauss(0, 0.005)
        self.pace = dice.lognormvariate(math.log(3), 0.3)  # epochs to 63 % of its end
        self.seconds = dice.lognormvariate(0.0, 0.6)  # of an epoch
        self.noise = [dice.gauss(0, 0.01) for _ in range(EPOCHS)]

    def miou(self, epoch: int) -> float:
        return self.top * (1 - math.exp(-(epoch + 1) / self.pace)) + self.noise[epoch]


SPACE = Space((), ("swift",), tuple(Dimension(f"hp.x{n}", f"hp.x{n}") for n in range(4)))


def scheduling(seeds: int, trials: int) -> None:
    shares, waits = [], []
    for seed in range(seeds):
        target, wall = in_batches(seed, trials)
        ours = pulling(seed, 20 * trials, "halving", target)
        shares.append(ours / wall)
        waits.append(pulling(seed, trials, "none", math.inf) / wall)
    print(
        f"\n| {WORKERS} workers, {trials} trials of the batches, {seeds} seeds | median | least | most | target |"
    )
    print("| --- | --- | --- | --- | --- |")
    name = "wall time in which pulling with halving has what the batches came to"
    print(
        f"| {name} | {statistics.median(shares):.2f} | {min(shares):.2f} | {max(shares):.2f} | 0.50 |"
    )
    name = "wall time of as many trials, pulled, none pruned"
    print(f"| {name} | {statistics.median(waits):.2f} | {min(waits):.2f} | {max(waits):.2f} | - |")


def in_batches(seed: int, trials: int) -> tuple[float, float]:
    """Best value and wall time of batches that are waited for, as Hydra's Optuna sweeper launches them."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    wall = 0.0
    for _ in range(trials // WORKERS):
        batch = [study.ask({d.param: optuna.distributions.FloatDistribution(0, 1) for d in SPACE.dimensions})
                 for _ in range(WORKERS)]  # fmt: skip
        curves = [Curve(t.params, seed) for t in batch]
        for trial, curve in zip(batch, curves, strict=True):
            study.tell(trial, curve.miou(EPOCHS - 1))
        wall += max(c.seconds for c in curves) * EPOCHS
    return study.best_value, wall


def pulling(seed: int, trials: int, pruner: str, target: float) -> float:
    """Wall time until a finished trial reaches the target, or all have ended."""
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
    parser.add_argument("what", choices=["compute", "scheduling"])
    parser.add_argument("--data", default="street", choices=sorted(SMALL))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=9)
    options = parser.parse_args()
    if options.what == "compute":
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        compute(options.data, seeds, options.trials, options.epochs)
    else:
        scheduling(options.seeds, options.trials)
