"""The evidence that a run left on a split."""

from pathlib import Path

from segtune.config.commands import command
from segtune.measure.evidence import Evidence
from segtune.tracking.names import key_name
from segtune.tracking.runs import RunRecord, artifact
from segtune.tracking.store import Store


def load_evidence(store: Store, run: RunRecord, split: str) -> Evidence | None:
    """What was measured of a run's segmenter on a split; None where nothing was.

    Raises:
        DataError: damaged.
    """
    folder = run.tags.get(key_name(f"segtune.evidence.{split}"))
    if folder and run.copy is not None:
        path: Path | None = run.copy / "evidence" / folder
    else:
        path = artifact(store, run.id, f"evidence/{folder}") if folder else None
    return None if path is None else Evidence.load(path)


def how_to_measure(store: Store, run: RunRecord, split: str) -> str:
    """The command that leaves it."""
    # the record of a removed run does not tell its dataset's place
    known = not run.uri or artifact(store, run.id, "config.yaml") is not None
    dataset = [] if known else ["dataset=NAME"]
    return command("evaluate", run.uri or run.id, *dataset, tracking=store.tracking, split=split)
