"""The promotion gate: its rules decide, from recorded figures, whether a run becomes champion."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from segtune.config.schema import GateConfig
from segtune.errors import nearest
from segtune.measure.evidence import Evidence
from segtune.measure.statistics import bootstrap
from segtune.measure.table import direction
from segtune.tracking.datasets import reads
from segtune.tracking.evidence import evaluate_command, load_evidence
from segtune.tracking.recorded import advice_on_test_split
from segtune.tracking.runs import RunRecord, artifact
from segtune.tracking.store import Store

_REQUIRED_TAGS = {
    "segtune.dataset": "val fingerprint",
    "segtune.dataset.train": "train fingerprint",
    "segtune.version": "segtune's version",
}


@dataclass(frozen=True)
class Verdict:
    """The verdict of one rule.

    Attributes:
        rule: the rule's key in `conf/gate/`.
        figure: the measured figure and the limit, in words.
        passed: None if the rule is off or cannot be applied.
    """

    rule: str
    figure: str
    passed: bool | None

    def line(self) -> str:
        """Return one line for the terminal."""
        mark = {True: "pass", False: "FAIL", None: "-"}[self.passed]
        return f"  {mark:<5} {self.rule:<22} {self.figure}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Contender:
    """A run that may become champion.

    Attributes:
        manifest_hash: sha256 of the manifest of the registered segmenter.
        model_runs: ids of the runs of all versions of this model.
    """

    run: RunRecord
    manifest_hash: str
    model_runs: frozenset[str]


def with_split(store: Store, run: RunRecord, gate: GateConfig) -> tuple[GateConfig, str]:
    """Return the gate with its split chosen, and a note about that choice.

    A dataset without a test split is judged on val. The rule `untouched` is then off, since val is
    read after every epoch.
    """
    if gate.split != "auto":
        return gate, ""
    has_evidence = run.tags.get("segtune.evidence.test") is not None
    advice = "" if has_evidence else advice_on_test_split(store, run.id)
    if not advice:
        return gate.model_copy(update={"split": "test"}), ""
    note = f"Judged on val. The run was chosen on val, so its val figures are too high: {advice}"
    return gate.model_copy(update={"split": "val", "untouched": False}), note


def judge(
    store: Store,
    contender: Contender,
    champion: RunRecord | None,
    gate: GateConfig,
    champion_lost: bool = False,
) -> list[Verdict]:
    """Return the verdicts of all rules.

    Args:
        champion: the run of the present champion; None for a first version.
        gate: with its split chosen, see `with_split`.
        champion_lost: there is a champion, but neither its run nor its evidence is left; rules
            that compare with the champion are then not applied.

    Raises:
        DataError: evidence is damaged.
    """
    evidence = load_evidence(store, contender.run, gate.split)
    return [
        _evidence(store, contender, evidence, gate),
        *_comparison(store, contender.run, evidence, champion, gate, champion_lost),
        *_limits(evidence, gate),
        *_metric_limits(evidence, gate),
        _exports(store, contender.run, gate),
        _provenance(contender.run, gate),
        _untouched(store, contender, evidence, gate),
    ]


def _evidence(
    store: Store, contender: Contender, evidence: Evidence | None, gate: GateConfig
) -> Verdict:
    rule = "evidence"
    if evidence is None:
        advice = advice_on_test_split(store, contender.run.id) if gate.split == "test" else ""
        next_step = advice or evaluate_command(store, contender.run, gate.split)
        return Verdict(rule, f"none on the {gate.split} split; {next_step}", False)
    if evidence.origin.segmenter != contender.manifest_hash:
        figure = "was measured with other weights than the registered ones; measure again"
        return Verdict(rule, figure, False)
    images = len(evidence.names)
    figure = f"{gate.split} mIoU {evidence.scores.miou:.4f} on {images} images"
    return Verdict(rule, figure, True)


def _comparison(
    store: Store,
    run: RunRecord,
    evidence: Evidence | None,
    champion: RunRecord | None,
    gate: GateConfig,
    champion_lost: bool,
) -> Iterator[Verdict]:
    """Yield the verdicts of the two rules that compare with the present champion."""
    limits = {"min_gain": gate.min_gain, "max_class_drop": gate.max_class_drop}
    rules = [rule for rule, limit in limits.items() if limit is not None]
    yield from (Verdict(rule, "off", None) for rule in limits if rule not in rules)
    if champion_lost:
        figure = "not judged: the champion's run was removed, and no copy of its evidence is left"
        yield from (Verdict(rule, figure, None) for rule in rules)
        return
    if champion is None:
        figure = "first version: there is no champion to compare with"
        yield from (Verdict(rule, figure, True) for rule in rules)
        return
    champion_evidence = load_evidence(store, champion, gate.split)
    if evidence is None:
        problem = f"no evidence on {gate.split}; {evaluate_command(store, run, gate.split)}"
    elif champion_evidence is None:
        next_step = evaluate_command(store, champion, gate.split)
        problem = f"the champion has no evidence on {gate.split}; {next_step}"
    else:
        problem = _incomparable(evidence, champion_evidence)
    if evidence is None or champion_evidence is None or problem:
        yield from (Verdict(rule, problem, False) for rule in rules)
        return
    if gate.min_gain is not None:
        yield _gain(evidence, champion_evidence, gate.min_gain)
    if gate.max_class_drop is not None:
        yield _class_drop(evidence, champion_evidence, gate.max_class_drop)


def _incomparable(contender: Evidence, champion: Evidence) -> str:
    """Return the reason why two segmenters cannot be compared; empty if they can."""
    ours, theirs = contender.origin, champion.origin
    if ours.classes == theirs.classes and ours.fingerprint == theirs.fingerprint:
        return ""
    return (
        f"measured on {ours.dataset} ({ours.fingerprint[:12]}), but the champion on "
        f"{theirs.dataset} ({theirs.fingerprint[:12]}): measure both on the same split, "
        "or use another model=NAME"
    )


def _gain(contender: Evidence, champion: Evidence, min_gain: float) -> Verdict:
    rule = "min_gain"
    if contender.units < 2:
        return Verdict(rule, "all images are in one group, so there is no interval", False)
    draws = bootstrap([[contender.matrices], [champion.matrices]], contender.groups)
    gain = draws.difference(0, 1)
    figure = f"{gain.value:+.4f} mIoU [{gain.low:+.4f}, {gain.high:+.4f}], must exceed {min_gain:g}"
    return Verdict(rule, figure, gain.low > min_gain)


def _class_drop(contender: Evidence, champion: Evidence, max_drop: float) -> Verdict:
    rule = "max_class_drop"
    new, old = contender.scores.iou, champion.scores.iou
    drops = {}
    for name, new_iou, old_iou in zip(contender.origin.classes, new, old, strict=True):
        if old_iou is not None:
            drops[name] = old_iou - (new_iou or 0.0)
    if not drops:
        return Verdict(rule, "no class occurs", True)
    worst = max(drops, key=lambda name: drops[name])
    figure = f"{worst} {-drops[worst]:+.4f} IoU, may fall by {max_drop:g}"
    return Verdict(rule, figure, drops[worst] <= max_drop)


def _limits(evidence: Evidence | None, gate: GateConfig) -> Iterator[Verdict]:
    """Yield the verdicts of the rules that limit calibration error and cost."""
    figures: dict[str, float] = {}
    if evidence is not None:
        figures = {**evidence.origin.cost, "ece": evidence.calibration.error}
    for key in ("ece", "latency_ms", "size_mb", "params_m"):
        rule = f"max_{key}"
        limit = getattr(gate, rule)
        if limit is None:
            yield Verdict(rule, "off", None)
        elif key not in figures:
            yield Verdict(rule, "not measured", False)
        else:
            device = f" on {evidence.origin.device}" if key == "latency_ms" and evidence else ""
            figure = f"{figures[key]:.4g}{device}, at most {limit:g}"
            yield Verdict(rule, figure, figures[key] <= limit)


def _metric_limits(evidence: Evidence | None, gate: GateConfig) -> Iterator[Verdict]:
    """Yield the verdicts of the limits on metrics; the direction says on which side they lie."""
    figures = {} if evidence is None else evidence.metrics()
    for name, limit in gate.metrics.items():
        rule, is_upper = f"metrics.{name}", direction(name) == "minimize"
        if name not in figures:
            known = nearest(name, figures) if figures else "there is no evidence"
            yield Verdict(rule, f"not measured; {known}", False)
            continue
        value, side = figures[name], "at most" if is_upper else "at least"
        passed = value <= limit if is_upper else value >= limit
        yield Verdict(rule, f"{value:.4g}, {side} {limit:g}", passed)


def _exports(store: Store, run: RunRecord, gate: GateConfig) -> Verdict:
    """Return the verdict on the exports' agreement with the run, from `exports/FORMAT.json`.

    Exports in int8 are left out: `segtune export` judges them.
    """
    rule, limit = "min_export_agreement", gate.min_export_agreement
    if limit is None:
        return Verdict(rule, "off", None)
    folder = artifact(store, run.id, "exports")
    agreements: dict[str, float] = {}
    for path in sorted(folder.glob("*.json")) if folder else []:
        export = json.loads(path.read_text(encoding="utf-8"))
        if export.get("precision") != "int8":
            agreements[path.stem] = float(export["agreement"])
    if not agreements:
        return Verdict(rule, "there is no export in full precision", None)
    worst = min(agreements, key=lambda name: agreements[name])
    figure = f"{worst} {agreements[worst]:.5f}, at least {limit:g}"
    return Verdict(rule, figure, agreements[worst] >= limit)


def _provenance(run: RunRecord, gate: GateConfig) -> Verdict:
    rule = "provenance"
    if not gate.provenance:
        return Verdict(rule, "off", None)
    missing = [name for tag, name in _REQUIRED_TAGS.items() if not run.tags.get(tag)]
    if missing:
        return Verdict(rule, f"not recorded: {', '.join(missing)}", False)
    commit = run.tags.get("mlflow.source.git.commit", "")[:12]
    code = f"commit {commit}" if commit else f"segtune {run.tags.get('segtune.version')}"
    return Verdict(rule, f"data and {code} are recorded", True)


def _untouched(
    store: Store, contender: Contender, evidence: Evidence | None, gate: GateConfig
) -> Verdict:
    rule = "untouched"
    if not gate.untouched:
        return Verdict(rule, "off", None)
    if evidence is None:
        return Verdict(rule, f"no evidence on {gate.split}", False)
    if gate.split == "val":
        figure = "val is read after every epoch; judge on test, or set gate.untouched=false"
        return Verdict(rule, figure, False)
    allowed = contender.model_runs | {contender.run.id}
    all_reads = reads(store, evidence.origin.fingerprint)
    others = [read for read in all_reads if read.run not in allowed]
    if others:
        first = others[0]
        figure = (
            f"{len({read.run for read in others})} other segmenters were measured on this split, "
            f"the first was {first.run[:8]} on {first.time[:16]} ({first.purpose}), "
            "so the split may have been used to choose this run"
        )
        return Verdict(rule, figure, False)
    return Verdict(rule, f"measured only for this model's {len(allowed)} versions", True)
