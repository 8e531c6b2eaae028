"""Collect the candidates of a comparison: segmenters with their seeds and evidence."""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from segtune.config.commands import command
from segtune.errors import ConfigError
from segtune.measure.evidence import Evidence
from segtune.tracking.evidence import evaluate_command, load_evidence
from segtune.tracking.registry import version_run
from segtune.tracking.runs import STUDY_TAG, RunRecord, confirm_runs, get_run, sweep_runs
from segtune.tracking.store import Store

# parameters that may differ between the runs of one candidate
_IGNORED_PARAMS = ("seed", "trainer.threads", "trainer.workers")
_SHOWN_CLASSES = 12


@dataclass(frozen=True)
class Candidate:
    """One configuration of a comparison; its runs differ only in their seed.

    Attributes:
        evidence: of each run, on the same split.
        trials: number of trials of the search that chose it; 1 without a search.
        sweep: the sweep of that search.
    """

    name: str
    runs: tuple[RunRecord, ...]
    evidence: tuple[Evidence, ...]
    trials: int
    sweep: str | None

    @property
    def first(self) -> RunRecord:
        """The run that represents the candidate where a single run is needed."""
        return self.runs[0]

    @cached_property
    def mious(self) -> tuple[float, ...]:
        """MIoU of each seed."""
        return tuple(e.scores.miou for e in self.evidence)

    @property
    def miou(self) -> float:
        """Mean mIoU over the seeds."""
        return sum(self.mious) / len(self.mious)


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison.

    Attributes:
        candidates: highest mIoU first.
        others: trials without a segmenter (pruned, failed, running) or without evidence.
        sweeps: names of the compared sweeps.
    """

    candidates: tuple[Candidate, ...]
    others: tuple[RunRecord, ...]
    sweeps: tuple[str, ...]

    @property
    def groups(self) -> tuple[str, ...] | None:
        """The group of each image; if runs have different groupings, the one with fewest groups."""
        groupings = []
        for candidate in self.candidates:
            groupings += [e.groups for e in candidate.evidence if e.groups]
        return min(groupings, key=lambda groups: len(set(groups)), default=None)


def collect(store: Store, names: Sequence[str], split: str = "val") -> Comparison:
    """Return the candidates of sweeps, `NAME:confirmed`, runs and registered versions.

    Args:
        split: the split of the compared evidence.

    Raises:
        ConfigError: a name is unknown, a run is unfinished or has no evidence, or the runs differ
            in their classes or split.
    """
    if not names:
        raise ConfigError(
            "compare needs the name of a sweep, ids of runs, or models:/NAME@champion."
        )
    runs: dict[str, RunRecord] = {}
    evidence_of: dict[str, Evidence] = {}
    others: dict[str, RunRecord] = {}
    sweeps: list[str] = []
    for name in names:
        named_runs, sweep = _runs_of_name(store, name)
        if sweep:
            sweeps.append(sweep)
        is_single = sweep is None and len(named_runs) == 1
        for run in named_runs:
            evidence = _evidence(store, run, split, required=is_single)
            if evidence is None:
                others[run.id] = run
            else:
                runs[run.id], evidence_of[run.id] = run, evidence
    finished = [r for r in others.values() if r.miou is not None]
    if finished and not runs:
        raise _without_evidence(store, finished[0], split)
    _check_comparable(store, runs, evidence_of)
    candidates = _candidates(store, list(runs.values()), evidence_of)
    ranked = sorted(candidates, key=lambda c: -c.miou)
    unique_sweeps = tuple(dict.fromkeys(sweeps))
    return Comparison(tuple(_with_unique_names(ranked)), tuple(others.values()), unique_sweeps)


def configuration(run: RunRecord) -> tuple[tuple[str, str], ...]:
    """Return all parameters that affect training, without the seed."""
    return tuple(sorted((k, v) for k, v in run.params.items() if k not in _IGNORED_PARAMS))


def _runs_of_name(store: Store, name: str) -> tuple[list[RunRecord], str | None]:
    """Return the runs of a name and, if they are trials of a sweep, the sweep."""
    if name.startswith("models:/"):
        return [version_run(store, name)], None
    sweep, _, suffix = name.partition(":")
    if suffix == "confirmed":
        runs = confirm_runs(store, sweep)
        if not runs:
            confirm = command("confirm", sweep, tracking=store.tracking)
            raise ConfigError(f"{name}: sweep '{sweep}' was not confirmed yet. Run: {confirm}")
        return runs, None
    trials = sweep_runs(store, name)
    if trials:
        return trials, name
    run = get_run(store, name)
    if run.tags.get("segtune.kind") == "sweep":
        sweep = run.tags["segtune.sweep"]
        trials = sweep_runs(store, sweep, run.tags.get(STUDY_TAG))
        if trials:
            return trials, sweep
    return [run], None


def _evidence(store: Store, run: RunRecord, split: str, required: bool) -> Evidence | None:
    """Return the evidence of a run, or None.

    Raises:
        ConfigError: the evidence is required, but there is none.
    """
    evidence = None if run.miou is None else load_evidence(store, run, split)
    if evidence is not None or not required:
        return evidence
    kind = run.tags.get("segtune.kind")
    if kind in ("sweep", "workflow"):
        raise ConfigError(
            f"run {run.id} ({run.name}) is a {kind} and has no evidence of its own; "
            "name the runs that it consists of."
        )
    if run.miou is None:
        resume = command("train", tracking=store.tracking, resume=run.id)
        raise ConfigError(
            f"run {run.id} ({run.name}) is {run.state} and has no segmenter; leave it out, or "
            f"finish it first: {resume}"
        )
    raise _without_evidence(store, run, split)


def _without_evidence(store: Store, run: RunRecord, split: str) -> ConfigError:
    return ConfigError(
        f"run {run.id} ({run.name}) has no evidence on the {split} split. Measure it first: "
        f"{evaluate_command(store, run, split)}"
    )


def _check_comparable(
    store: Store, runs: Mapping[str, RunRecord], evidence_of: Mapping[str, Evidence]
) -> None:
    """Check that all evidence has the same classes, split and labels.

    Raises:
        ConfigError: it has not.
    """
    properties: dict[str, Callable[[Evidence], str]] = {
        "class tables": _class_words,
        "splits": _split_words,
        "labels": _label_words,
    }
    for name, describe in properties.items():
        run_with = {describe(e): runs[run_id] for run_id, e in evidence_of.items()}
        if len(run_with) > 1:
            rows = [f"{r.name} ({r.id[:8]}): {text}" for text, r in list(run_with.items())[:4]]
            evaluate = command("evaluate", "RUN", "dataset=NAME", tracking=store.tracking)
            raise ConfigError(
                f"these runs were measured with different {name} and cannot be compared: "
                f"{'; '.join(rows)}. Compare runs of one dataset, or measure all on the same one "
                f"with: {evaluate}"
            )


def _class_words(evidence: Evidence) -> str:
    names = evidence.origin.classes
    more = f", … ({len(names)})" if len(names) > _SHOWN_CLASSES else ""
    return ", ".join(names[:_SHOWN_CLASSES]) + more


def _split_words(evidence: Evidence) -> str:
    origin = evidence.origin
    images, fingerprint = len(evidence.names), origin.fingerprint[:12]
    return f"{origin.dataset} {origin.split} ({images} images, fingerprint {fingerprint})"


def _label_words(evidence: Evidence) -> str:
    """Describe the labels by a hash of image names and of the pixels per class in each image.

    `dataset.label_map` can change labels without changing the files.
    """
    pixels = evidence.matrices.sum(2)
    digest = zlib.crc32(repr(evidence.names).encode())
    digest ^= zlib.crc32(np.ascontiguousarray(pixels).tobytes())
    unit, images = evidence.origin.unit, len(evidence.names)
    return f"{int(pixels.sum()):,} counted {unit}s in {images} images ({digest:08x})"


def _candidates(
    store: Store, runs: Sequence[RunRecord], evidence_of: Mapping[str, Evidence]
) -> list[Candidate]:
    """Return the candidates of some runs; their order follows the runs."""
    candidates = []
    trials_of: dict[tuple[str, str | None], int] = {}
    for group in _grouped(runs):
        first = group[0]
        sweep = first.tags.get("segtune.sweep") or first.tags.get("segtune.confirms")
        trials = 1
        if sweep:
            study = first.tags.get(STUDY_TAG)
            if (sweep, study) not in trials_of:
                trials_of[sweep, study] = len(sweep_runs(store, sweep, study))
            trials = trials_of[sweep, study]
        name = first.name
        if len(group) > 1:
            name = first.tags.get("segtune.candidate", first.name)
        evidence = tuple(evidence_of[r.id] for r in group)
        candidates.append(Candidate(name, tuple(group), evidence, trials, sweep))
    return candidates


def _grouped(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Group the runs whose configuration is equal and whose seeds differ.

    A second run with a seed of the group is a group of its own: the same seed twice shows nothing
    about other seeds.
    """
    groups: dict[tuple[object, ...], list[RunRecord]] = {}
    for run in runs:
        key: tuple[object, ...] = (configuration(run),)
        seeds = [r.params.get("seed") for r in groups.get(key, [])]
        if run.params.get("seed") in seeds:
            key = (configuration(run), run.id)
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def _with_unique_names(candidates: Sequence[Candidate]) -> list[Candidate]:
    count = Counter(c.name for c in candidates)
    unique = []
    for candidate in candidates:
        if count[candidate.name] > 1:
            name = f"{candidate.name} {candidate.first.id[:6]}"
            candidate = replace(candidate, name=name)
        unique.append(candidate)
    return unique
