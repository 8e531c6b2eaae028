"""The facts of a comparison: one JSON object that the page, the CSV file and the card read."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune import __version__
from segtune.config.conf_files import read_yaml
from segtune.measure.evidence import Evidence
from segtune.measure.metrics import mean_of
from segtune.measure.power import SIGNIFICANCE, needed
from segtune.measure.statistics import RESAMPLES, Draws, Interval, bootstrap, holm
from segtune.measure.table import plugin_metrics
from segtune.models.folder import DESCRIPTION
from segtune.report.candidates import Candidate, Comparison
from segtune.report.cost import shared_latency
from segtune.report.phrasing import plan_words, verdict_words
from segtune.report.warning_texts import warning_words
from segtune.runtime.strict_json import read_json
from segtune.tracking.datasets import reads, reads_of_test
from segtune.tracking.runs import RunRecord, artifact
from segtune.tracking.store import Store

_SHOWN_SEEDS = 12
_MOST_NEEDS = 20  # comparisons; each costs 10 ms
ESTIMATOR = (
    "mIoU of the whole split (one confusion matrix of all images), mean over seeds; "
    f"95 % interval of a paired bootstrap over {{units}} with {RESAMPLES:,} resamples, the same "
    "for all candidates; where each candidate has several seeds, it covers seeds as well "
    "(Student's, with the variances of seeds, {units} and their interaction); two-sided p-values, "
    "corrected for the number of comparisons (Holm, 1979), which is that of all pairs where the "
    "baseline is the best candidate"
)


def gather(
    store: Store,
    comparison: Comparison,
    names: Sequence[str],
    baseline: Candidate | None,
    plan: float | None = None,
) -> dict[str, Any]:
    """Return all figures of a comparison as plain data; accuracies are in [0, 1].

    Args:
        names: as the user wrote them.
        baseline: the candidate that the others are compared with; by default the best, which the
            data choose: p-values are then corrected for all pairs.
        plan: a difference of mIoU, in [0, 1], to plan seeds and images for.
    """
    candidates = comparison.candidates
    facts: dict[str, Any] = {
        "segtune": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "compared": list(names),
        "store": store.address,
        "candidates": [],
        "others": [_other_row(r, comparison) for r in comparison.others],
        "verdict": [],
        "warnings": [],
    }
    if not candidates:
        return facts
    base = baseline or candidates[0]
    evidence, groups = candidates[0].evidence[0], comparison.groups
    draws = None
    if len(set(groups or evidence.names)) > 1:
        draws = bootstrap([_matrices(candidate) for candidate in candidates], groups)
    pairs = len(candidates) * (len(candidates) - 1) // 2
    tests = len(candidates) - 1 if baseline else pairs
    differences = _differences(candidates, base, draws, plan, tests)
    facts["split"] = _split(store, candidates[0].first, evidence, groups)
    facts["baseline"] = base.name
    facts["method"] = ESTIMATOR.format(units="groups" if groups else "images") if draws else None
    for number, candidate in enumerate(candidates):
        interval = draws.interval(number) if draws else None
        row = _candidate_row(candidate, interval, differences.get(candidate.name))
        facts["candidates"].append(row)
    for row, latency in zip(facts["candidates"], shared_latency(facts["candidates"]), strict=True):
        row["latency"] = latency
    facts["candidates"][0] |= _preprocessing(store, candidates[0])
    facts["varied"] = _varied(candidates)
    facts["verdict"] = verdict_words(facts)
    if plan is not None:
        facts["plan"] = plan
        facts["verdict"] += plan_words(facts)
    facts["warnings"] = warning_words(facts, candidates)
    return facts


def _differences(
    candidates: Sequence[Candidate],
    base: Candidate,
    draws: Draws | None,
    plan: float | None,
    tests: int,
) -> dict[str, dict[str, Any]]:
    """Return the difference of each candidate to the baseline, by name.

    `needed` holds the numbers of seeds or images that show `plan`, or the difference itself; None
    without a plan among many candidates.

    Args:
        tests: number of comparisons to correct p-values for.
    """
    if draws is None:
        return {}
    base_number = candidates.index(base)
    intervals = {
        candidate.name: draws.difference(number, base_number)
        for number, candidate in enumerate(candidates)
        if number != base_number
    }
    corrected = holm([i.p_value for i in intervals.values()], tests)
    rows = {}
    for (name, interval), p_value in zip(intervals.items(), corrected, strict=True):
        row = asdict(interval) | {"p_corrected": p_value, "distinguishable": p_value < SIGNIFICANCE}
        sought = abs(interval.value) if plan is None else plan
        row["needed"] = None
        if plan is not None or len(intervals) <= _MOST_NEEDS:
            row["needed"] = asdict(needed(interval.parts, sought, SIGNIFICANCE / tests))
        rows[name] = row
    return rows


def _varied(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Return what varied between the runs of a candidate, and what was fixed, in words."""
    seeds = sorted({r.params.get("seed", "?") for c in candidates for r in c.runs}, key=_number)
    shown = ", ".join(seeds[:_SHOWN_SEEDS]) + (", …" if len(seeds) > _SHOWN_SEEDS else "")
    trained_on = {r.tags.get("segtune.dataset.train") for c in candidates for r in c.runs}
    devices = sorted({e.origin.device for c in candidates for e in c.evidence})
    return {
        "seed": f"varied ({shown})" if len(seeds) > 1 else f"fixed ({shown})",
        "order of images and augmentation": "follow the seed",
        "train split": "fixed" if len(trained_on) == 1 else "varied",
        "measured images": "fixed; the interval is about other images of the same kind",
        "machine": f"{'fixed' if len(devices) == 1 else 'varied'} ({', '.join(devices)})",
    }


def _number(text: str) -> tuple[bool, int]:
    return (True, int(text)) if text.isdigit() else (False, 0)


def _plugin_metrics(evidence: Sequence[Evidence]) -> dict[str, float]:
    """Return the means, over the runs, of the metrics that plugins registered."""
    values: dict[str, list[float]] = {}
    for one in evidence:
        for name, value in plugin_metrics(one).items():
            values.setdefault(name, []).append(value)
    return {name: sum(numbers) / len(numbers) for name, numbers in values.items()}


def _candidate_row(
    candidate: Candidate, interval: Interval | None, difference: Mapping[str, Any] | None
) -> dict[str, Any]:
    evidence, run = candidate.evidence, candidate.first
    origin = evidence[0].origin
    scores = [e.scores for e in evidence]
    mious = [s.miou for s in scores]
    pixel_evidence = [e for e in evidence if e.origin.unit == "pixel"]
    return {
        "name": candidate.name,
        "runs": _run_rows(candidate),
        "miou": candidate.miou,
        "interval": asdict(interval) if interval else None,
        "seed_deviation": float(np.std(mious, ddof=1)) if len(mious) > 1 else None,
        "difference": dict(difference) if difference else None,
        "iou": _class_ious(candidate),
        "unit": origin.unit,
        "boundary_iou": _mean([mean_of(e.boundary_iou) for e in pixel_evidence]),
        "ece": _mean([e.calibration.error for e in evidence]),
        "mean_dice": _mean([s.mean_dice for s in scores]),
        "pixel_accuracy": _mean([s.pixel_accuracy for s in scores]),
        "fwiou": _mean([s.fwiou for s in scores]),
        "more_metrics": _plugin_metrics(evidence),
        "cost": dict(origin.cost),
        "device": origin.device,
        "seconds": float(np.mean([_seconds(r) for r in candidate.runs])),
        "trials": candidate.trials,
        "sweep": candidate.sweep,
        "confirmed": "segtune.confirms" in run.tags,
        "template": run.params.get("template"),
        "params": dict(run.params),
        "commit": run.tags.get("mlflow.source.git.commit"),
        "dirty": run.tags.get("segtune.git.dirty") == "true",
        "version": run.tags.get("segtune.version"),
        "train_fingerprint": run.tags.get("segtune.dataset.train"),
        "val_fingerprint": run.tags.get("segtune.dataset"),
        "command": run.tags.get("segtune.command"),
    }


def _matrices(candidate: Candidate) -> list[NDArray[np.int64]]:
    return [e.matrices for e in candidate.evidence]


def _class_ious(candidate: Candidate) -> dict[str, float | None]:
    """Return each class's IoU, the mean over the seeds in which it is defined."""
    per_seed = [e.scores.iou for e in candidate.evidence]
    classes = candidate.evidence[0].origin.classes
    ious = {}
    for name, *values in zip(classes, *per_seed, strict=True):
        ious[name] = _mean(values)
    return ious


def _run_rows(candidate: Candidate) -> list[dict[str, Any]]:
    return [
        {
            "run": run.id,
            "name": run.name,
            "seed": run.params.get("seed"),
            "miou": evidence.scores.miou,
            "boundary_iou": mean_of(evidence.boundary_iou)
            if evidence.origin.unit == "pixel"
            else None,
            "ece": evidence.calibration.error,
            "seconds": _seconds(run),
            "segmenter": evidence.origin.segmenter,
        }
        for run, evidence in zip(candidate.runs, candidate.evidence, strict=True)
    ]


def _seconds(run: RunRecord) -> float:
    """Return the seconds of work; for a resumed run, those of its last process."""
    return round(run.metrics.get("seconds", run.seconds), 1)


def _preprocessing(store: Store, candidate: Candidate) -> dict[str, Any]:
    """Return preprocessing and image size from the segmenter's description."""
    path = artifact(store, candidate.first.id, "segmenter")
    if path is None:
        return {}
    description = read_json(path / DESCRIPTION)
    return {key: description.get(key) for key in ("preprocessing", "image_size")}


def _licence(store: Store, run: RunRecord) -> str:
    path = artifact(store, run.id, "config.yaml")
    dataset = read_yaml(path).get("dataset") if path else None
    return str(dataset.get("licence", "")) if isinstance(dataset, dict) else ""


def _split(
    store: Store, run: RunRecord, evidence: Evidence, groups: Sequence[str] | None
) -> dict[str, Any]:
    origin, matrices = evidence.origin, evidence.matrices
    has_class = matrices.sum(2) > 0  # (images, classes)
    pixels = matrices.sum((0, 2))
    return {
        "dataset": origin.dataset,
        "name": origin.split,
        "fingerprint": origin.fingerprint,
        "licence": _licence(store, run),
        "images": len(evidence.names),
        "groups": len(set(groups)) if groups else None,
        "classes": [
            {"name": c, "pixels": int(pixels[n]), "images": int(has_class[:, n].sum())}
            for n, c in enumerate(origin.classes)
        ],
        "duplicates": list(origin.duplicates) if origin.duplicates is not None else None,
        "reads": [asdict(r) for r in reads(store, origin.fingerprint)],
        "test_reads": [asdict(r) for r in reads_of_test(store, origin.dataset)],
    }


def _other_row(run: RunRecord, comparison: Comparison) -> dict[str, Any]:
    split = comparison.candidates[0].evidence[0].origin.split if comparison.candidates else ""
    return {
        "run": run.id,
        "name": run.name,
        "state": run.state if run.miou is None else f"{run.state}, not measured on {split}",
        "last_val_miou": run.metrics.get("val/miou"),
        "seconds": round(run.seconds, 1),
        "params": dict(run.params),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return sum(defined) / len(defined) if defined else None
