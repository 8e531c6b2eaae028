"""The facts of a comparison: one JSON object that the page, the CSV file and the model card all read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import yaml

from segtune import __version__
from segtune.measure.evidence import Evidence
from segtune.measure.metrics import mean_of
from segtune.measure.statistics import RESAMPLES, Draws, Interval, bootstrap, holm
from segtune.models.folder import DESCRIPTION
from segtune.report.candidates import Candidate, Comparison
from segtune.report.phrasing import verdict_words
from segtune.tracking.datasets import reads, reads_of_test
from segtune.tracking.runs import RunRecord, artifact
from segtune.tracking.store import Store

_FEW_IMAGES = 100
ESTIMATOR = (
    "mIoU of the whole split (one confusion matrix over all images), averaged over seeds; 95 % percentile interval of "
    f"a paired bootstrap over {{units}}, {RESAMPLES:,} resamples that all candidates share; p-values two-sided, "
    "corrected for the number of comparisons (Holm, 1979)"
)


def gather(
    store: Store, comparison: Comparison, names: Sequence[str], baseline: Candidate | None
) -> dict[str, Any]:
    """All figures of a comparison, as plain data; accuracies lie in [0, 1].

    Args:
        names: as the user gave them.
        baseline: that the others are compared with; by default the best.
    """
    candidates = comparison.candidates
    facts: dict[str, Any] = {
        "segtune": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "compared": list(names),
        "store": store.uri,
        "candidates": [],
        "others": [_other(r, comparison) for r in comparison.others],
        "verdict": [],
        "warnings": [],
    }
    if not candidates:
        return facts
    first = candidates[0].evidence[0]
    base = baseline or candidates[0]
    groups = comparison.groups
    units = len(set(groups or first.names))
    draws = (
        bootstrap([[e.matrices for e in c.evidence] for c in candidates], groups)
        if units > 1
        else None
    )
    differences = _differences(candidates, base, draws)
    facts["split"] = _split(store, candidates[0].first, first, groups)
    facts["baseline"] = base.name
    facts["method"] = ESTIMATOR.format(units="groups" if groups else "images") if draws else None
    for n, candidate in enumerate(candidates):
        interval = draws.interval(n) if draws else None
        facts["candidates"].append(_candidate(candidate, interval, differences.get(candidate.name)))
    facts["candidates"][0] |= _segmenter(store, candidates[0])
    facts["verdict"] = verdict_words(facts)
    facts["warnings"] = _warnings(facts, candidates)
    return facts


def _differences(
    candidates: Sequence[Candidate], base: Candidate, draws: Draws | None
) -> dict[str, dict[str, Any]]:
    if draws is None:
        return {}
    at = candidates.index(base)
    found = {c.name: draws.difference(n, at) for n, c in enumerate(candidates) if n != at}
    corrected = dict(zip(found, holm([i.p_value for i in found.values()]), strict=True))
    return {
        n: asdict(i) | {"p_corrected": corrected[n], "distinguishable": corrected[n] < 0.05}
        for n, i in found.items()
    }


def _candidate(
    candidate: Candidate, interval: Interval | None, difference: Mapping[str, Any] | None
) -> dict[str, Any]:
    evidence, run = candidate.evidence, candidate.first
    classes = evidence[0].origin.classes
    scores = [e.scores for e in evidence]
    # of several seeds, the class's IoU is the mean over those in which it is defined
    iou = {c: _mean([s.iou[n] for s in scores]) for n, c in enumerate(classes)}
    mious = [s.miou for s in scores]
    return {
        "name": candidate.name,
        "runs": [
            {"run": r.id, "name": r.name, "seed": r.params.get("seed"), "miou": m, "seconds": _seconds(r),
             "segmenter": e.origin.segmenter}
            for r, m, e in zip(candidate.runs, mious, evidence, strict=True)
        ],
        "miou": candidate.miou,
        "interval": asdict(interval) if interval else None,
        "seed_deviation": float(np.std(mious, ddof=1)) if len(mious) > 1 else None,
        "difference": dict(difference) if difference else None,
        "iou": iou,
        "unit": evidence[0].origin.unit,
        "boundary_iou": _mean([mean_of(e.boundary_iou) for e in evidence if e.origin.unit == "pixel"]),
        "ece": _mean([e.calibration.error for e in evidence]),
        "mean_dice": _mean([s.mean_dice for s in scores]),
        "pixel_accuracy": _mean([s.pixel_accuracy for s in scores]),
        "fwiou": _mean([s.fwiou for s in scores]),
        "cost": dict(evidence[0].origin.cost),
        "device": evidence[0].origin.device,
        "seconds": float(np.mean([_seconds(r) for r in candidate.runs])),
        "trials": candidate.trials,
        "sweep": candidate.sweep,
        "template": run.params.get("template"),
        "params": dict(run.params),
        "commit": run.tags.get("mlflow.source.git.commit"),
        "dirty": run.tags.get("segtune.git.dirty") == "true",
        "version": run.tags.get("segtune.version"),
        "train_fingerprint": run.tags.get("segtune.dataset.train"),
        "val_fingerprint": run.tags.get("segtune.dataset"),
        "command": run.tags.get("segtune.command"),
    }  # fmt: skip


def _seconds(run: RunRecord) -> float:
    """Seconds of work; a run that was interrupted and resumed counts what its last process took."""
    return round(run.metrics.get("seconds", run.seconds), 1)


def _segmenter(store: Store, candidate: Candidate) -> dict[str, Any]:
    """What the best one's description says of preprocessing."""
    path = artifact(store, candidate.first.id, "segmenter")
    if path is None:
        return {}
    told = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
    return {"preprocessing": told["preprocessing"], "image_size": told["image_size"]}


def _licence(store: Store, run: RunRecord) -> str:
    path = artifact(store, run.id, "config.yaml")
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path else {}
    return str(config.get("dataset", {}).get("licence", ""))


def _split(
    store: Store, run: RunRecord, evidence: Evidence, groups: Sequence[str] | None
) -> dict[str, Any]:
    origin, counts = evidence.origin, evidence.matrices
    present = counts.sum(2) > 0
    pixels = counts.sum((0, 2))
    return {
        "dataset": origin.dataset,
        "name": origin.split,
        "fingerprint": origin.fingerprint,
        "licence": _licence(store, run),
        "images": len(evidence.names),
        "groups": len(set(groups)) if groups else None,
        "classes": [
            {"name": c, "pixels": int(pixels[n]), "images": int(present[:, n].sum())}
            for n, c in enumerate(origin.classes)
        ],
        "duplicates": list(origin.duplicates) if origin.duplicates is not None else None,
        "reads": [asdict(r) for r in reads(store, origin.fingerprint)],
        "test_reads": [asdict(r) for r in reads_of_test(store, origin.dataset)],
    }


def _other(run: RunRecord, comparison: Comparison) -> dict[str, Any]:
    split = comparison.candidates[0].evidence[0].origin.split if comparison.candidates else ""
    state = run.state if run.miou is None else f"{run.state}, not measured on {split}"
    return {
        "run": run.id, "name": run.name, "state": state, "last_val_miou": run.metrics.get("val/miou"),
        "seconds": round(run.seconds, 1), "params": dict(run.params),
    }  # fmt: skip


def _warnings(facts: Mapping[str, Any], candidates: Sequence[Candidate]) -> list[str]:
    split, rows = facts["split"], facts["candidates"]
    found = []
    if split["duplicates"]:
        some = ", ".join(split["duplicates"][:5])
        found.append(
            f"{len(split['duplicates'])} of the {split['images']} images lie in the train split too, byte for byte "
            f"({some}, …): the figures overestimate every candidate."
        )
    absent = [c["name"] for c in split["classes"] if not c["pixels"]]
    if absent:
        found.append(f"The split has no pixel of {', '.join(absent)}: nothing is known of them.")
    if split["images"] < _FEW_IMAGES:
        found.append(
            f"{split['images']} images are few: below {_FEW_IMAGES} the intervals are rough themselves."
        )
    if split["groups"] == 1:
        found.append("All images belong to one group (a video or scene): no interval can be given.")
    single = [r["name"] for r in rows if len(r["runs"]) == 1]
    if single:
        whose = (
            "Every candidate has" if len(single) == len(rows) else f"{', '.join(single[:5])} has"
        )
        found.append(f"{whose} one seed: what another seed would change is not known.")
    few = sorted({len(r["runs"]) for r in rows if 1 < len(r["runs"]) < 10})
    if few:
        found.append(
            f"Of {few[-1]} seeds the spread is shown, and no significance claimed: the intervals are about other "
            "images alone."
        )
    unmeasured = [r["name"] for r in facts["others"] if "not measured" in r["state"]]
    if unmeasured:
        found.append(
            f"{len(unmeasured)} finished trials have no evidence on {split['name']} and are left out: "
            f"{', '.join(unmeasured[:5])}{', …' if len(unmeasured) > 5 else ''}."
        )
    found += _reads_warning(split, candidates)
    budgets = {r["name"]: r["trials"] for r in rows}
    if len(set(budgets.values())) > 1:
        least, most = min(budgets, key=lambda n: budgets[n]), max(budgets, key=lambda n: budgets[n])
        found.append(
            f"Unequal tuning: {most} was chosen out of {budgets[most]} trials, {least} out of {budgets[least]}; the "
            "more were tried, the more luck the best of them holds."
        )
    if len(set(r["train_fingerprint"] for r in rows)) > 1:
        found.append("The candidates were trained on different train splits.")
    if len({r["device"] for r in rows}) > 1:
        found.append("Latencies were taken on different devices and cannot be compared.")
    return found


def _reads_warning(split: Mapping[str, Any], candidates: Sequence[Candidate]) -> list[str]:
    """Reads of a test split before the last of the compared runs had been trained."""
    last = max(r.started + r.seconds for c in candidates for r in c.runs)
    when = datetime.fromtimestamp(last, UTC).isoformat(timespec="microseconds")
    early = [r for r in split["test_reads"] if r["time"] < when]
    if not early:
        return []
    return [
        f"The test split was read {len(early)} times while candidates were still being trained: it may have been "
        "searched on."
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return sum(defined) / len(defined) if defined else None
