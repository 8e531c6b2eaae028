"""The model card: `README.md` with model-index metadata in the form of the Hugging Face hub."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from segtune.report.candidates import collect
from segtune.report.facts import gather
from segtune.report.phrasing import sample_words
from segtune.report.rendering import render
from segtune.tracking.evidence import load_evidence
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import RunRecord
from segtune.tracking.store import Store

_WEAK_IOU = 0.5  # classes below this IoU are listed as weak


def card_text(facts: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Return the card of one candidate.

    Args:
        facts: of a comparison, see `gather`.
        row: one of its candidates.
    """

    def cost(key: str, digits: int) -> str:
        return f"{row['cost'][key]:.{digits}f}" if key in row["cost"] else "n/a"

    weak = [(name, iou) for name, iou in row["iou"].items() if iou is not None and iou < _WEAK_IOU]
    text = render(
        "card.md.j2",
        cost=cost,
        facts=facts,
        row=row,
        split=facts["split"],
        run=row["runs"][0],
        sample=sample_words({**facts, "candidates": [row]}),
        weak=sorted(weak, key=lambda item: item[1]),
        absent=[name for name, iou in row["iou"].items() if iou is None],
    )
    return f"---\n{_metadata(facts, row)}---\n\n{text}"


def keep_card(store: Store, run: RunRecord, split: str) -> None:
    """Save a run's card and its facts with the run, if the run has evidence on the split."""
    if load_evidence(store, run, split) is None:
        return
    facts = gather(store, collect(store, [run.id], split), [run.id], None)
    writer = RunWriter(store, run.id)
    writer.text("README.md", card_text(facts, facts["candidates"][0]))
    writer.data("card.json", facts)


def _metadata(facts: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Return the card's YAML header."""
    split = facts["split"]
    figures = [
        ("mean_iou", "mIoU", row["miou"]),
        ("boundary_iou", "boundary IoU", row["boundary_iou"]),
        ("ece", "expected calibration error", row["ece"]),
        ("accuracy", f"{row['unit']} accuracy", row["pixel_accuracy"]),
    ]
    results = [
        EvalResult(
            task_type="image-segmentation",
            dataset_name=split["dataset"],
            dataset_type=split["dataset"],
            dataset_split=split["name"],
            dataset_revision=split["fingerprint"],
            metric_type=metric_type,
            metric_name=name,
            metric_value=round(value, 6),
        )
        for metric_type, name, value in figures
        if value is not None
    ]
    data = ModelCardData(
        model_name=row["name"],
        library_name="segtune",
        pipeline_tag="image-segmentation",
        eval_results=results,
        tags=["segtune", "semantic-segmentation", str(row["template"])],
        license="other",
        license_name="as-its-data",
    )
    return str(data.to_yaml()) + "\n"
