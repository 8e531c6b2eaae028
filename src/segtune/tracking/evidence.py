"""Load the evidence of a run on a split."""

from segtune.config.commands import command
from segtune.measure.evidence import Evidence
from segtune.tracking.names import key_name
from segtune.tracking.runs import RunRecord, artifact
from segtune.tracking.store import Store


def load_evidence(store: Store, run: RunRecord, split: str) -> Evidence | None:
    """Return the evidence of a run's segmenter on a split; None if it was not measured there.

    Raises:
        DataError: the evidence is damaged.
    """
    name = run.tags.get(key_name(f"segtune.evidence.{split}"))
    if not name:
        return None
    if run.copy is not None:
        return Evidence.load(run.copy / "evidence" / name)
    path = artifact(store, run.id, f"evidence/{name}")
    return None if path is None else Evidence.load(path)


def evaluate_command(store: Store, run: RunRecord, split: str) -> str:
    """Return the command that measures a run's segmenter on a split."""
    # the copy of a removed run does not hold the path of its dataset
    knows_dataset = not run.uri or artifact(store, run.id, "config.yaml") is not None
    dataset = [] if knows_dataset else ["dataset=NAME"]
    return command("evaluate", run.uri or run.id, *dataset, tracking=store.tracking, split=split)
