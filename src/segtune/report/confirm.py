"""Confirmation: retrains a sweep's best configurations with new seeds; the search overestimates their mIoU."""

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
from segtune.tracking.runs import RunRecord, search_runs, sweep_runs
from segtune.tracking.store import Store


@dataclass(frozen=True)
class Confirmed:
    """One configuration of the top.

    Attributes:
        trial: its first one.
        searched: val mIoU that its trials reached; the mean where the search gave it several seeds.
        mious: val mIoU of each fresh seed.
    """

    trial: RunRecord
    searched: float
    mious: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the fresh seeds."""
        return mean(self.mious)


@dataclass(frozen=True)
class Confirmation:
    """What confirming a sweep came to.

    Attributes:
        rows: best of the search first.
        report: of the fresh runs.
    """

    sweep: str
    rows: tuple[Confirmed, ...]
    report: Report

    @property
    def optimism(self) -> float:
        """The search's best value minus the confirmed mean of the same configuration."""
        return self.rows[0].searched - self.rows[0].mean

    @property
    def best(self) -> Confirmed:
        """The configuration of the highest confirmed mean."""
        return max(self.rows, key=lambda r: r.mean)

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object, for scripts."""
        rows = [{"trial": r.trial.name, "run": r.trial.id, "searched": r.searched, "confirmed": list(r.mious),
                 "mean": r.mean} for r in self.rows]  # fmt: skip
        return {"sweep": self.sweep, "optimism": self.optimism, "rows": rows, "best": self.best.trial.name,
                "report": self.report.to_json()}  # fmt: skip

    def lines(self) -> list[str]:
        """For people."""
        rows = [f"  {'trial':<24} search   fresh seeds, mean and each"]
        for row in self.rows:
            fresh = " ".join(f"{m:.4f}" for m in row.mious)
            rows.append(f"  {row.trial.name:<24} {row.searched:.4f}   {row.mean:.4f}  ({fresh})")
        told = (
            f"optimism of the search: its best value lies {100 * self.optimism:+.1f} points of mIoU from the mean of "
            f"{len(self.rows[0].mious)} fresh seeds of the same configuration"
        )
        return [
            *rows,
            told,
            f"best on fresh seeds: {self.best.trial.name}",
            f"report: {self.report.html}",
        ]


def confirm(store: Store, sweep: str, top: int, seeds: int, say: Log) -> Confirmation:
    """Trains the top configurations of a sweep on seeds that no trial had, and compares those runs.

    Runs that an earlier call finished are reused; those that it left unfinished are resumed.

    Raises:
        ConfigError: no such sweep, none of its trials has finished, a trial without its config, or another process
            confirms it.
        DataError: the dataset is not the one that the trials saw.
        Interrupted: stopped by the user.
    """
    trials = sweep_runs(store, sweep)
    ranked = _ranked(trials)[:top]
    if not ranked:
        raise ConfigError(
            f"sweep '{sweep}' has no finished trial in '{store.uri}'; nothing can be confirmed."
        )
    for trial, _ in ranked:
        check_place(recorded_config(store, trial.id).dataset)
    used = {int(t.params["seed"]) for t in trials if t.params.get("seed", "").isdigit()}
    fresh = fresh_seeds(sweep, seeds, used)
    rows = []
    try:
        # the lock: an unfinished run is resumed, but not while another process trains it
        with FileLock(store.root / "sweeps" / sweep / "confirm.lock", timeout=0):
            for n, (trial, searched) in enumerate(ranked, start=1):
                say(f"{n} of {len(ranked)}: {trial.name}, {searched:.4f} in the search")
                mious = tuple(_run(store, sweep, trial, seed, say) for seed in fresh)
                rows.append(Confirmed(trial, searched, mious))
    except Timeout:
        raise ConfigError(
            f"sweep '{sweep}' is being confirmed by another process; wait for it, or end it."
        ) from None
    return Confirmation(sweep, tuple(rows), compare(store, [f"{sweep}:confirmed"]))


def _ranked(trials: Sequence[RunRecord]) -> list[tuple[RunRecord, float]]:
    """The first trial of each configuration, with the mean over the seeds that the search gave it; best first."""
    found: dict[object, list[tuple[RunRecord, float]]] = {}
    for trial in trials:
        if trial.miou is not None:
            found.setdefault(configuration(trial), []).append((trial, trial.miou))
    rows = [(same[0][0], mean(miou for _, miou in same)) for same in found.values()]
    return sorted(rows, key=lambda row: -row[1])


def fresh_seeds(sweep: str, count: int, used: set[int]) -> list[int]:
    """The same seeds for the same sweep whenever it is asked, none of them used by it.

    >>> fresh_seeds("a", 2, set()) == fresh_seeds("a", 3, set())[:2]
    True
    """
    first = zlib.crc32(sweep.encode()) % 1_000_000
    found: list[int] = []
    while len(found) < count:
        first += 1
        if first not in used:
            found.append(first)
    return found


def _run(store: Store, sweep: str, trial: RunRecord, seed: int, say: Log) -> float:
    """Val mIoU of one fresh run."""
    from segtune.training.fit import fit
    from segtune.training.request import RunRequest

    same = {"segtune.confirms": sweep, "segtune.candidate": trial.name}
    there = [r for r in search_runs(store, same) if r.params.get("seed") == str(seed)]
    done = next((r for r in there if r.miou is not None), None)
    if done is not None and done.miou is not None:
        say(f"seed {seed}: done before, val mIoU {done.miou:.4f}")
        return done.miou
    config = recorded_config(store, trial.id).model_copy(update={"seed": seed})
    begun = next((r.id for r in there if r.state in ("interrupted", "running")), None)
    tags = {"segtune.kind": "confirm", **same}
    if "segtune.command" in trial.tags:
        tags["segtune.command"] = f"{trial.tags['segtune.command']} seed={seed}"
    say(f"seed {seed}" + (f": goes on with run {begun}" if begun else ""))
    name = f"{trial.name}-seed{seed}"
    request = RunRequest(name, tags, resume=begun, same_data_as=trial.id, restart_if_damaged=True)
    return fit(config, request, say=say).miou
