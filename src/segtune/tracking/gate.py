"""The promotion gate: a segmenter becomes champion only if every rule passes, each on figures that are on record."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from segtune.config.schema import GateConfig
from segtune.measure.evidence import Evidence
from segtune.measure.statistics import bootstrap
from segtune.tracking.datasets import reads
from segtune.tracking.evidence import how_to_measure, load_evidence
from segtune.tracking.recorded import advice_on_test_split
from segtune.tracking.runs import RunRecord, artifact
from segtune.tracking.store import Store


@dataclass(frozen=True)
class Verdict:
    """What one rule says.

    Attributes:
        rule: the key of `conf/gate/`.
        figure: what was found and what is allowed, in words.
        passed: None where the rule is not asked for, or has nothing to judge.
    """

    rule: str
    figure: str
    passed: bool | None

    def line(self) -> str:
        """For people."""
        mark = {True: "pass", False: "FAIL", None: "-"}[self.passed]
        return f"  {mark:<5} {self.rule:<22} {self.figure}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Contender:
    """A run that asks to be champion.

    Attributes:
        manifest_hash: of the segmenter that is registered.
        own: ids of the runs that this model's versions came from.
    """

    run: RunRecord
    manifest_hash: str
    own: frozenset[str]


def settled(store: Store, run: RunRecord, gate: GateConfig) -> tuple[GateConfig, str]:
    """The gate with its split chosen, and what is to be said about it.

    Without a test split it is val; `untouched` is not asked for then, since val is read after every epoch.
    """
    if gate.split != "auto":
        return gate, ""
    tested = run.tags.get("segtune.evidence.test") is not None
    advice = "" if tested else advice_on_test_split(store, run.id)
    if not advice:
        return gate.model_copy(update={"split": "test"}), ""
    note = f"Judged on val, on which it was chosen, so that val overestimates it: {advice}"
    return gate.model_copy(update={"split": "val", "untouched": False}), note


def judge(
    store: Store,
    contender: Contender,
    champion: RunRecord | None,
    gate: GateConfig,
    lost: bool = False,
) -> list[Verdict]:
    """The verdict of every rule.

    Args:
        champion: the run of the present champion; None for a first version.
        lost: there is a champion of which no run and no evidence is left: rules that compare with it judge nothing.
        gate: as `settled`.

    Raises:
        DataError: evidence that is damaged.
    """
    evidence = load_evidence(store, contender.run, gate.split)
    return [
        _evidence(store, contender, evidence, gate),
        *_against(store, contender, evidence, champion, gate, lost),
        *_limits(evidence, gate),
        _exports(store, contender.run, gate),
        _provenance(contender.run, gate),
        _untouched(store, contender, evidence, gate),
    ]


def _evidence(
    store: Store, contender: Contender, evidence: Evidence | None, gate: GateConfig
) -> Verdict:
    if evidence is None:
        advice = advice_on_test_split(store, contender.run.id) if gate.split == "test" else ""
        measure = advice or how_to_measure(store, contender.run, gate.split)
        return Verdict("evidence", f"none on the {gate.split} split; {measure}", False)
    if evidence.origin.segmenter != contender.manifest_hash:
        return Verdict(
            "evidence",
            "is about other weights than those that are registered; measure again",
            False,
        )
    scores = evidence.scores
    return Verdict(
        "evidence", f"{gate.split} mIoU {scores.miou:.4f} on {len(evidence.names)} images", True
    )


def _against(
    store: Store,
    contender: Contender,
    evidence: Evidence | None,
    champion: RunRecord | None,
    gate: GateConfig,
    lost: bool,
) -> Iterator[Verdict]:
    """The two rules that compare with the present champion."""
    rules = {"min_gain": gate.min_gain, "max_class_drop": gate.max_class_drop}
    asked = [r for r, limit in rules.items() if limit is not None]
    yield from (Verdict(r, "not asked for", None) for r in rules if r not in asked)
    if champion is None:
        figure = "first version: nothing to compare with"
        if lost:
            figure = "not judged: the champion's run was removed, and no evidence of it is kept"
        yield from (Verdict(r, figure, None if lost else True) for r in asked)
        return
    theirs = load_evidence(store, champion, gate.split)
    if evidence is None:
        problem = f"there is no evidence on {gate.split}; {how_to_measure(store, contender.run, gate.split)}"
    elif theirs is None:
        problem = f"the champion has no evidence on {gate.split}; {how_to_measure(store, champion, gate.split)}"
    else:
        problem = _problem(evidence, theirs)
    if evidence is None or theirs is None or problem:
        yield from (Verdict(r, problem, False) for r in asked)
        return
    if gate.min_gain is not None:
        yield _gain(evidence, theirs, gate.min_gain)
    if gate.max_class_drop is not None:
        yield _class_drop(evidence, theirs, gate.max_class_drop)


def _problem(ours: Evidence, theirs: Evidence) -> str:
    """Why two cannot be compared; empty where they can."""
    if (
        ours.origin.classes != theirs.origin.classes
        or ours.origin.fingerprint != theirs.origin.fingerprint
    ):
        return (
            f"measured on {ours.origin.dataset} ({ours.origin.fingerprint[:12]}), the champion on "
            f"{theirs.origin.dataset} ({theirs.origin.fingerprint[:12]}): measure both on "
            "one split, or use another model="
        )
    return ""


def _gain(ours: Evidence, theirs: Evidence, least: float) -> Verdict:
    if ours.units < 2:
        return Verdict(
            "min_gain", "all images belong to one group: no interval can be given", False
        )
    found = bootstrap([[ours.matrices], [theirs.matrices]], ours.groups).difference(0, 1)
    figure = f"{found.value:+.4f} mIoU [{found.low:+.4f}, {found.high:+.4f}], must exceed {least:g}"
    return Verdict("min_gain", figure, found.low > least)


def _class_drop(ours: Evidence, theirs: Evidence, most: float) -> Verdict:
    rows = zip(ours.origin.classes, ours.scores.iou, theirs.scores.iou, strict=True)
    drops = {c: (b or 0.0) - (a or 0.0) for c, a, b in rows if b is not None}
    if not drops:
        return Verdict("max_class_drop", "no class occurs", True)
    worst = max(drops, key=lambda c: drops[c])
    return Verdict(
        "max_class_drop",
        f"{worst} {-drops[worst]:+.4f} IoU, may fall by {most:g}",
        drops[worst] <= most,
    )


def _limits(evidence: Evidence | None, gate: GateConfig) -> Iterator[Verdict]:
    figures = (
        {} if evidence is None else {**evidence.origin.cost, "ece": evidence.calibration.error}
    )
    for key in ("ece", "latency_ms", "size_mb", "params_m"):
        rule = f"max_{key}"
        limit = getattr(gate, rule)
        if limit is None:
            yield Verdict(rule, "not asked for", None)
        elif key not in figures:
            yield Verdict(rule, "not measured", False)
        else:
            where = f" on {evidence.origin.device}" if key == "latency_ms" and evidence else ""
            yield Verdict(
                rule, f"{figures[key]:.4g}{where}, at most {limit:g}", figures[key] <= limit
            )


def _exports(store: Store, run: RunRecord, gate: GateConfig) -> Verdict:
    """Exports leave `exports/FORMAT.json` with their `agreement` with the run; int8 was judged when it was made."""
    rule, least = "min_export_agreement", gate.min_export_agreement
    if least is None:
        return Verdict(rule, "not asked for", None)
    folder = artifact(store, run.id, "exports")
    found = (
        {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))}
        if folder
        else {}
    )
    found = {name: told for name, told in found.items() if told.get("precision") != "int8"}
    if not found:
        return Verdict(rule, "there is no export in full precision", None)
    worst = min(found, key=lambda name: float(found[name]["agreement"]))
    agreement = float(found[worst]["agreement"])
    return Verdict(rule, f"{worst} {agreement:.5f}, at least {least:g}", agreement >= least)


def _provenance(run: RunRecord, gate: GateConfig) -> Verdict:
    if not gate.provenance:
        return Verdict("provenance", "not asked for", None)
    needed = {"segtune.dataset": "val fingerprint", "segtune.dataset.train": "train fingerprint",
              "segtune.version": "segtune's version"}  # fmt: skip
    gone = [what for tag, what in needed.items() if not run.tags.get(tag)]
    commit = run.tags.get("mlflow.source.git.commit", "")[:12]
    code = f"commit {commit}" if commit else f"segtune {run.tags.get('segtune.version')}"
    return Verdict(
        "provenance",
        f"not on record: {', '.join(gone)}" if gone else f"data and {code} on record",
        not gone,
    )


def _untouched(
    store: Store, contender: Contender, evidence: Evidence | None, gate: GateConfig
) -> Verdict:
    if not gate.untouched:
        return Verdict("untouched", "not asked for", None)
    if evidence is None:
        return Verdict("untouched", f"no evidence on {gate.split}", False)
    if gate.split == "val":
        return Verdict(
            "untouched",
            "val is read after every epoch; judge on test, or set gate.untouched=false",
            False,
        )
    others = [
        r
        for r in reads(store, evidence.origin.fingerprint)
        if r.run not in contender.own | {contender.run.id}
    ]
    if others:
        figure = (
            f"{len({r.run for r in others})} other segmenters were measured on it, first {others[0].run[:8]} on "
            f"{others[0].time[:16]} ({others[0].purpose}): it may have been chosen on"
        )
        return Verdict("untouched", figure, False)
    figure = f"measured only for this model's {len(contender.own | {contender.run.id})} versions"
    return Verdict("untouched", figure, True)
