"""The model card: `README.md` with model-index metadata, as Hugging Face's hub reads it, out of the report's facts."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from segtune.report.candidates import collect
from segtune.report.facts import gather
from segtune.report.phrasing import points, sample_words
from segtune.tracking.evidence import load_evidence
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import RunRecord
from segtune.tracking.store import Store

_WEAK = 0.5  # IoU below which a class is named as a failure


def card_text(facts: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """The card of one candidate.

    Args:
        facts: of a comparison, see `gather`.
        row: one of its candidates.
    """
    split, run = facts["split"], row["runs"][0]
    environment = Environment(
        loader=PackageLoader("segtune", "report"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["points"] = points
    # text of users' must not become markup on a web page
    environment.filters["plain"] = lambda text: (
        str(text).replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
    )
    weak = [(c, v) for c, v in row["iou"].items() if v is not None and v < _WEAK]

    def cost(key: str, digits: int) -> str:
        return f"{row['cost'][key]:.{digits}f}" if key in row["cost"] else "n/a"

    text = environment.get_template("card.md.j2").render(
        cost=cost, facts=facts, row=row, split=split, run=run, sample=sample_words({**facts, "candidates": [row]}),
        weak=sorted(weak, key=lambda r: r[1]), unseen=[c for c, v in row["iou"].items() if v is None],
    )  # fmt: skip
    return f"---\n{_metadata(facts, row)}---\n\n{text}"


def keep_card(store: Store, run: RunRecord, split: str) -> None:
    """Keeps a run's card and the facts that it is made of with the run; nothing where it has no evidence."""
    if load_evidence(store, run, split) is None:
        return
    facts = gather(store, collect(store, [run.id], split), [run.id], None)
    writer = RunWriter(store, run.id)
    writer.text("README.md", card_text(facts, facts["candidates"][0]))
    writer.data("card.json", facts)


def _metadata(facts: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    split = facts["split"]
    shared = {
        "task_type": "image-segmentation",
        "dataset_name": split["dataset"],
        "dataset_type": split["dataset"],
        "dataset_split": split["name"],
        "dataset_revision": split["fingerprint"],
    }
    figures = {"mIoU": ("mean_iou", row["miou"]), "boundary IoU": ("boundary_iou", row["boundary_iou"]),
               "expected calibration error": ("ece", row["ece"]),
               f"{row['unit']} accuracy": ("accuracy", row["pixel_accuracy"])}  # fmt: skip
    results = [
        EvalResult(**shared, metric_type=kind, metric_name=name, metric_value=round(value, 6))
        for name, (kind, value) in figures.items()
        if value is not None
    ]
    data = ModelCardData(
        model_name=row["name"], library_name="segtune", pipeline_tag="image-segmentation", eval_results=results,
        tags=["segtune", "semantic-segmentation", str(row["template"])], license="other",
        license_name="as-its-data",
    )  # fmt: skip
    return str(data.to_yaml()) + "\n"
