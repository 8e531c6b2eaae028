"""Measure merged segmenters, and record the one that is worth it as a run of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from segtune import __version__
from segtune.config.schema import RunConfig
from segtune.data.batches.decoded import Decoded
from segtune.data.source.layout import Source
from segtune.data.sources import open_source
from segtune.errors import DataError
from segtune.evaluation.evaluate import measure_split, save_evidence, with_segmenter_hash
from segtune.evaluation.merging import (
    Member,
    averaged,
    ensemble,
    ensemble_section,
    open_members,
)
from segtune.inference.segmenter import Segmenter
from segtune.measure.evidence import Evidence
from segtune.runtime.log import Log
from segtune.tasks.segmentation import Segmentation
from segtune.tracking.recording import logged_params
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.store import Store
from segtune.tracking.versions import MANIFEST_HASH

How = Literal["auto", "weights", "logits"]
_COSTS = ("latency_ms", "params_m", "gflops")


@dataclass(frozen=True)
class Measured:
    """A segmenter with its val mIoU and its cost.

    Attributes:
        how: `weights`, `logits`, or the name of a single run.
    """

    how: str
    miou: float
    cost: Mapping[str, float]

    @property
    def line(self) -> str:
        """One line for people."""
        parts = [f"{self.cost[key]:.3g} {key}" for key in _COSTS if key in self.cost]
        return f"{self.how:<24} val mIoU {self.miou:.4f}  {', '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"how": self.how, "val/miou": self.miou, "cost": dict(self.cost)}


@dataclass(frozen=True)
class Merged:
    """The result of a merge.

    Attributes:
        singles: the merged runs, the best first.
        tried: the merged segmenters that were measured.
        kept: the one that became a run; None if none was better than the best single.
        run_id: of that run; empty without one.
    """

    singles: Sequence[Measured]
    tried: Sequence[Measured]
    kept: Measured | None
    run_id: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "singles": [single.to_json() for single in self.singles],
            "tried": [merged.to_json() for merged in self.tried],
            "kept": self.kept.how if self.kept else None,
            "run": self.run_id or None,
            "uri": f"runs:/{self.run_id}" if self.run_id else None,
            "metrics": {"val/miou": self.kept.miou} if self.kept else {},
        }

    def lines(self) -> list[str]:
        """Return lines for people."""
        lines = [measured.line for measured in [*self.singles, *self.tried]]
        if self.kept is None:
            return [*lines, f"no merge is better than {self.singles[0].how}; nothing was kept"]
        gain = 100 * (self.kept.miou - self.singles[0].miou)
        return [
            *lines,
            f"kept: {self.kept.how}, {gain:+.2f} points over the best single run; run "
            f"{self.run_id}",
        ]


def merge(store: Store, names: Sequence[str], how: How, say: Log) -> Merged:
    """Merge the segmenters of runs; keep the result if it beats the best of them on val.

    Args:
        how: `weights` averages the weights, at the cost of one; `logits` averages the logits, at
            the cost of all. `auto` takes the weights if they are better, else the logits.

    Raises:
        ConfigError: runs that are not alike, see `open_members`.
        DataError: the dataset cannot be read any more.
    """
    members = open_members(store, names)
    first, task = members[0], Segmentation()
    source = open_source(first.config.dataset, say)
    size, cache = first.segmenter.image_size, first.config.cache
    val = task.load(source, "val", size, stored_masks=True, cache=cache, say=say)
    _refuse_changed(first, "val", val)
    singles = [Measured(m.run.name, m.run.miou or 0.0, _recorded_cost(m)) for m in members]
    singles.sort(key=lambda single: -single.miou)
    tried = []
    for one in ("weights", "logits") if how == "auto" else (how,):
        say(f"measuring the mean of the {one} on {len(val)} val images")
        segmenter = _merged(members, one, source, say)
        evidence = measure_split(task, segmenter, source, "val", val)
        measured = Measured(one, evidence.scores.miou, evidence.origin.cost)
        tried.append(measured)
        if measured.miou > singles[0].miou:
            run_id = _record(store, members, measured, segmenter, evidence, val)
            return Merged(singles, tried, measured, run_id)
    return Merged(singles, tried, None, "")


def _refuse_changed(member: Member, split: str, data: Decoded) -> None:
    """Refuse data that are not those of the runs: scores of unlike images cannot be compared.

    Raises:
        DataError: the split has changed since the run.
    """
    recorded = member.segmenter.info.get("dataset", {}).get(split)
    if recorded and recorded != data.fingerprint:
        raise DataError(
            f"the {split} images or masks have changed since run {member.run.id} (fingerprint "
            f"{recorded[:12]}, now {data.fingerprint[:12]}). Restore them, or train the runs anew."
        )


def _recorded_cost(member: Member) -> dict[str, float]:
    metrics = member.run.metrics
    return {key: metrics[f"cost/{key}"] for key in _COSTS if f"cost/{key}" in metrics}


def _merged(members: Sequence[Member], how: str, source: Source, say: Log) -> Segmenter:
    if how == "logits":
        return ensemble(members)
    config, task = members[0].config, Segmentation()
    train = task.load(source, "train", members[0].segmenter.image_size, cache=config.cache, say=say)
    _refuse_changed(members[0], "train", train)
    segmenter = averaged(members, train)
    if config.trainer.class_offsets:
        task.offset_classes(segmenter, source, train)
    return segmenter


def _record(
    store: Store,
    members: Sequence[Member],
    measured: Measured,
    segmenter: Segmenter,
    evidence: Evidence,
    val: Decoded,
) -> str:
    """Save the segmenter as a run, with its evidence and the runs that it consists of."""
    first = members[0]
    config = first.config
    if measured.how == "logits":
        template = {**config.template, "model": ensemble_section(members)}
        config = config.model_copy(update={"template": template})
    facts = dict(first.segmenter.info.get("dataset", {}))
    segmenter.describe(config.template, facts, evidence.metrics("val/"), config.plugins)
    ids = [member.run.id for member in members]
    tags = {
        "segtune.kind": "merge",
        "segtune.version": __version__,
        "segtune.dataset": str(facts.get("val")),
        "segtune.dataset.train": str(facts.get("train")),
        "segtune.members": ",".join(ids),
    }
    params = logged_params(config) | {"merge": measured.how, "members": len(ids)}
    name = f"{first.config.template['name']}-{config.dataset.name}-{measured.how}-of-{len(ids)}"
    writer = RunWriter.create(store, name, params, tags)
    try:
        _write(writer, config, segmenter, evidence, val)
    except BaseException:
        writer.finish("failed")
        raise
    writer.finish("finished")
    return writer.run_id


def _write(
    writer: RunWriter, config: RunConfig, segmenter: Segmenter, evidence: Evidence, val: Decoded
) -> None:
    """Write config, segmenter, evidence and figures of a merged run."""
    writer.folder.mkdir(parents=True, exist_ok=True)
    writer.data("config.yaml", config.model_dump(mode="json"))
    writer.data("classes.json", segmenter.classes.to_json())
    folder = writer.folder / "segmenter"
    digest = segmenter.save(folder)
    writer.folder_artifact(folder, "segmenter")
    evidence = with_segmenter_hash(evidence, folder)
    save_evidence(writer, evidence, val)
    figures = {f"best/{key}": value for key, value in evidence.metrics("val/").items()}
    figures |= {f"cost/{key}": value for key, value in evidence.origin.cost.items()}
    writer.metrics(figures, 0)
    writer.tags({MANIFEST_HASH: digest})
