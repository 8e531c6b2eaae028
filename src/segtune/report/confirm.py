"""Confirm a sweep: retrain its best configurations with new seeds.

The search overestimates the mIoU of the configuration that it chooses; new seeds show by how much.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from filelock import FileLock, Timeout

from segtune.data.source.places import check_place
from segtune.errors import ConfigError
from segtune.report.candidates import configuration
from segtune.report.compare import Report, compare
from segtune.runtime.log import Log
from segtune.tracking.recorded import recorded_config
from segtune.tracking.runs import STUDY_TAG, RunRecord, confirm_runs, sweep_runs
from segtune.tracking.store import Store


@dataclass(frozen=True)
class Confirmed:
    """One confirmed configuration.

    Attributes:
        trial: its first trial.
        searched: val mIoU in the search; the mean if the search used several seeds.
        mious: val mIoU of each new seed.
    """

    trial: RunRecord
    searched: float
    mious: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean val mIoU of the new seeds."""
        return mean(self.mious)


@dataclass(frozen=True)
class Confirmation:
    """The result of `confirm`.

    Attributes:
        rows: the best configuration of the search first.
        report: comparison of the new runs.
    """

    sweep: str
    rows: tuple[Confirmed, ...]
    report: Report

    @property
    def optimism(self) -> float:
        """The search's best mIoU minus the mean of the same configuration's new seeds."""
        return self.rows[0].searched - self.rows[0].mean

    @property
    def best(self) -> Confirmed:
        """The configuration with the highest mean of the new seeds."""
        return max(self.rows, key=lambda r: r.mean)

    def to_json(self) -> dict[str, Any]:
        """Return the result as one JSON object, for scripts."""
        rows = [
            {
                "trial": row.trial.name,
                "run": row.trial.id,
                "searched": row.searched,
                "confirmed": list(row.mious),
                "mean": row.mean,
            }
            for row in self.rows
        ]
        return {
            "sweep": self.sweep,
            "optimism": self.optimism,
            "rows": rows,
            "best": self.best.trial.name,
            "report": self.report.to_json(),
        }

    def lines(self) -> list[str]:
        """Return the lines for the terminal."""
        lines = [f"  {'trial':<24} search   new seeds: mean (each)"]
        for row in self.rows:
            mious = " ".join(f"{m:.4f}" for m in row.mious)
            lines.append(f"  {row.trial.name:<24} {row.searched:.4f}   {row.mean:.4f}  ({mious})")
        seeds = len(self.rows[0].mious)
        lines.append(
            f"optimism of the search: {100 * self.optimism:+.1f} points of mIoU (its best value "
            f"minus the mean of {seeds} new seeds of the same configuration)"
        )
        lines.append(f"highest mean of the new seeds: {self.best.trial.name}")
        lines += self.report.facts["verdict"]
        lines.append(f"report: {self.report.html}")
        return lines


def confirm(store: Store, sweep: str, top: int, seeds: int, say: Log) -> Confirmation:
    """Train a sweep's best configurations with seeds that no trial used, and compare these runs.

    Runs that an earlier call finished are reused; unfinished ones are resumed.

    Args:
        top: number of configurations.
        seeds: number of new seeds for each.

    Raises:
        ConfigError: the sweep is unknown or has no finished trial, a trial recorded no config, or
            another process confirms the same sweep.
        DataError: the dataset has changed since the trials.
        Interrupted: the user stopped it.
    """
    trials = sweep_runs(store, sweep)
    ranked = _ranked(trials)[:top]
    if not ranked:
        raise ConfigError(
            f"sweep '{sweep}' has no finished trial in '{store.address}', so nothing can be "
            "confirmed."
        )
    for trial, _ in ranked:
        check_place(recorded_config(store, trial.id).dataset)
    used_seeds = [t.params.get("seed", "") for t in trials]
    new_seeds = fresh_seeds(sweep, seeds, {int(s) for s in used_seeds if s.isdigit()})
    rows = []
    try:
        # two processes must not resume the same unfinished run
        with FileLock(store.root / "sweeps" / sweep / "confirm.lock", timeout=0):
            for number, (trial, searched) in enumerate(ranked, start=1):
                say(f"{number} of {len(ranked)}: {trial.name}, {searched:.4f} in the search")
                mious = tuple(_train(store, sweep, trial, seed, say) for seed in new_seeds)
                rows.append(Confirmed(trial, searched, mious))
    except Timeout:
        raise ConfigError(
            f"another process confirms sweep '{sweep}'; wait for it, or stop it."
        ) from None
    return Confirmation(sweep, tuple(rows), compare(store, [f"{sweep}:confirmed"]))


def fresh_seeds(sweep: str, count: int, used: set[int]) -> list[int]:
    """Return seeds that the sweep has not used; the same ones at each call.

    >>> fresh_seeds("a", 2, set()) == fresh_seeds("a", 3, set())[:2]
    True
    """
    seed = zlib.crc32(sweep.encode()) % 1_000_000
    seeds: list[int] = []
    while len(seeds) < count:
        seed += 1
        if seed not in used:
            seeds.append(seed)
    return seeds


def _ranked(trials: Sequence[RunRecord]) -> list[tuple[RunRecord, float]]:
    """Return each configuration's first trial and its mean mIoU over seeds, best first."""
    groups: dict[object, list[tuple[RunRecord, float]]] = {}
    for trial in trials:
        if trial.miou is not None:
            groups.setdefault(configuration(trial), []).append((trial, trial.miou))
    rows = []
    for group in groups.values():
        first_trial, _ = group[0]
        rows.append((first_trial, mean(miou for _, miou in group)))
    return sorted(rows, key=lambda row: -row[1])


def _train(store: Store, sweep: str, trial: RunRecord, seed: int, say: Log) -> float:
    """Train a trial's configuration with a new seed, unless that is done; return its val mIoU."""
    from segtune.training.fit import fit
    from segtune.training.request import RunRequest

    tags = {"segtune.confirms": sweep, "segtune.candidate": trial.name}
    study = trial.tags.get(STUDY_TAG)
    earlier = [
        run
        for run in confirm_runs(store, sweep, study)
        if run.tags.get("segtune.candidate") == trial.name and run.params.get("seed") == str(seed)
    ]
    for run in earlier:
        if run.miou is not None:
            say(f"seed {seed}: trained before, val mIoU {run.miou:.4f}")
            return run.miou
    unfinished = [r.id for r in earlier if r.state in ("interrupted", "running")]
    resume = unfinished[0] if unfinished else None
    tags["segtune.kind"] = "confirm"
    if study is not None:
        tags[STUDY_TAG] = study
    if "segtune.command" in trial.tags:
        tags["segtune.command"] = f"{trial.tags['segtune.command']} seed={seed}"
    say(f"seed {seed}: resumes run {resume}" if resume else f"seed {seed}")
    config = recorded_config(store, trial.id).model_copy(update={"seed": seed})
    name = f"{trial.name}-seed{seed}"
    request = RunRequest(name, tags, resume=resume, same_data_as=trial.id, restart_if_damaged=True)
    return fit(config, request, say=say).miou
