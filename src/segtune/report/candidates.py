"""What a report compares: segmenters with the seeds they were trained on, and the evidence of each."""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from segtune.config.commands import command
from segtune.errors import ConfigError
from segtune.measure.evidence import Evidence
from segtune.tracking.evidence import evaluate_command, load_evidence
from segtune.tracking.registry import version_run
from segtune.tracking.runs import RunRecord, get_run, search_runs, sweep_runs
from segtune.tracking.store import Store

_FREE = (
    "seed",
    "trainer.threads",
    "trainer.workers",
)  # what may differ between the seeds of one candidate


@dataclass(frozen=True)
class Candidate:
    """One segmenter of a comparison: runs that differ in their seed alone.

    Attributes:
        evidence: of each run, on the same split.
        trials: that were spent on the search which it came out of; 1 for a run that was not searched.
        sweep: whose trial it is.
    """

    name: str
    runs: tuple[RunRecord, ...]
    evidence: tuple[Evidence, ...]
    trials: int
    sweep: str | None

    @property
    def first(self) -> RunRecord:
        """The run that stands for it where one must."""
        return self.runs[0]

    @cached_property
    def mious(self) -> tuple[float, ...]:
        """MIoU of each seed."""
        return tuple(e.scores.miou for e in self.evidence)

    @property
    def miou(self) -> float:
        """Mean over its seeds."""
        return sum(self.mious) / len(self.mious)


@dataclass(frozen=True)
class Comparison:
    """All that was asked to be compared.

    Attributes:
        candidates: best first.
        others: trials of a sweep that kept no segmenter (pruned, failed, still running), or that were not measured on
            the split.
    """

    candidates: tuple[Candidate, ...]
    others: tuple[RunRecord, ...]
    sweeps: tuple[str, ...]

    @property
    def groups(self) -> tuple[str, ...] | None:
        """Of each image; where runs were measured with several groupings, the one with the fewest groups."""
        known = [e.groups for c in self.candidates for e in c.evidence if e.groups]
        return min(known, key=lambda groups: len(set(groups)), default=None)


def collect(store: Store, names: Sequence[str], split: str = "val") -> Comparison:
    """Finds what the names stand for: sweeps, `NAME:confirmed`, runs, registered versions.

    Args:
        split: whose evidence is compared.

    Raises:
        ConfigError: nothing of that name, a run that is not finished or left no evidence, or runs whose classes or
            splits differ.
    """
    if not names:
        raise ConfigError(
            "compare needs the name of a sweep, ids of runs, or models:/NAME@champion."
        )
    runs: dict[str, RunRecord] = {}
    sweeps: list[str] = []
    others: dict[str, RunRecord] = {}
    kept: dict[str, Evidence] = {}
    for name in names:
        found, sweep = _resolve(store, name)
        sweeps += [sweep] if sweep else []
        for run in found:
            evidence = _evidence(store, run, split, must=sweep is None and len(found) == 1)
            if evidence is None:
                others[run.id] = run
            else:
                runs[run.id], kept[run.id] = run, evidence
    finished = [r for r in others.values() if r.miou is not None]
    if finished and not runs:
        raise _unmeasured(store, finished[0], split)
    _check(store, runs, kept)
    trials = Counter[str]()
    for sweep in {s for r in runs.values() if (s := _searched_in(r))}:
        trials[sweep] = len(sweep_runs(store, sweep))
    candidates = sorted(_grouped(list(runs.values()), kept, trials), key=lambda c: -c.miou)
    return Comparison(
        tuple(_distinct(candidates)), tuple(others.values()), tuple(dict.fromkeys(sweeps))
    )


def _resolve(store: Store, name: str) -> tuple[list[RunRecord], str | None]:
    """The runs that a name stands for, and the sweep whose trials they are."""
    if name.startswith("models:/"):
        return [version_run(store, name)], None
    sweep, _, what = name.partition(":")
    if what == "confirmed":
        found = search_runs(store, {"segtune.confirms": sweep})
        if not found:
            confirm = command("confirm", sweep, tracking=store.tracking)
            raise ConfigError(
                f"{name}: nothing of sweep '{sweep}' was confirmed yet. Run: {confirm}"
            )
        return found, None
    if trials := sweep_runs(store, name):
        return trials, name
    run = get_run(store, name.removeprefix("runs:/"))
    if run.tags.get("segtune.kind") == "sweep":
        name = run.tags["segtune.sweep"]
        if trials := sweep_runs(store, name):
            return trials, name
    return [run], None


def _evidence(store: Store, run: RunRecord, split: str, must: bool) -> Evidence | None:
    """What a run is compared by; None where it has nothing.

    Args:
        must: raise instead of returning None.
    """
    found = None if run.miou is None else load_evidence(store, run, split)
    if found is not None or not must:
        return found
    kind = run.tags.get("segtune.kind")
    if kind in ("sweep", "workflow"):
        raise ConfigError(
            f"run {run.id} ({run.name}) is a {kind}, which is not measured; name what it consists of."
        )
    if run.miou is None:
        raise ConfigError(
            f"run {run.id} ({run.name}) is {run.state} and kept no segmenter; leave it out, or finish it first: "
            f"{command('train', tracking=store.tracking, resume=run.id)}"
        )
    raise _unmeasured(store, run, split)


def _unmeasured(store: Store, run: RunRecord, split: str) -> ConfigError:
    return ConfigError(
        f"run {run.id} ({run.name}) has no evidence on the {split} split. Measure it first: "
        f"{evaluate_command(store, run, split)}"
    )


def _check(store: Store, runs: Mapping[str, RunRecord], kept: Mapping[str, Evidence]) -> None:
    for what, told in (("class tables", _classes), ("splits", _split), ("truths", _truth)):
        seen = {told(e): (runs[i].name, i) for i, e in kept.items()}
        if len(seen) > 1:
            rows = "; ".join(
                f"{name} ({i[:8]}): {text}" for text, (name, i) in list(seen.items())[:4]
            )
            raise ConfigError(
                f"these runs were measured with different {what} and cannot be compared: {rows}. Compare runs of one "
                "dataset, or measure all on the same one with: "
                f"{command('evaluate', 'RUN', 'dataset=NAME', tracking=store.tracking)}"
            )


def _classes(evidence: Evidence) -> str:
    names = evidence.origin.classes
    return ", ".join(names[:12]) + (f", … ({len(names)})" if len(names) > 12 else "")


def _split(evidence: Evidence) -> str:
    origin = evidence.origin
    return f"{origin.dataset} {origin.split} ({len(evidence.names)} images, fingerprint {origin.fingerprint[:12]})"


def _truth(evidence: Evidence) -> str:
    """Names of the images and pixels of each class in each: `dataset.label_map` may change them, not the files."""
    counted = evidence.matrices.sum(2)
    digest = zlib.crc32(repr(evidence.names).encode()) ^ zlib.crc32(
        np.ascontiguousarray(counted).tobytes()
    )
    return f"{int(counted.sum()):,} counted {evidence.origin.unit}s in {len(evidence.names)} images ({digest:08x})"


def configuration(run: RunRecord) -> tuple[tuple[str, str], ...]:
    """All that decides how a run was trained but its seed."""
    return tuple(sorted((k, v) for k, v in run.params.items() if k not in _FREE))


def _grouped(
    runs: Sequence[RunRecord], kept: Mapping[str, Evidence], trials: Mapping[str, int]
) -> list[Candidate]:
    groups: dict[tuple[object, ...], list[RunRecord]] = {}
    for run in runs:
        config = configuration(run)
        # the same run twice, or two runs of one seed, stay apart: only other seeds tell of other seeds
        twin = sum(
            r.params.get("seed") == run.params.get("seed") for r in groups.get((config, 0), [])
        )
        key = (config, 0) if not twin else (config, run.id)
        groups.setdefault(key, []).append(run)
    found = []
    for same in groups.values():
        sweep = _searched_in(same[0])
        name = (
            same[0].name if len(same) == 1 else same[0].tags.get("segtune.candidate", same[0].name)
        )
        found.append(
            Candidate(
                name,
                tuple(same),
                tuple(kept[r.id] for r in same),
                trials.get(sweep or "", 1),
                sweep,
            )
        )
    return found


def _searched_in(run: RunRecord) -> str | None:
    return run.tags.get("segtune.sweep") or run.tags.get("segtune.confirms")


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    count = Counter(c.name for c in candidates)
    return [
        c if count[c.name] == 1 else replace(c, name=f"{c.name} {c.first.id[:6]}")
        for c in candidates
    ]
