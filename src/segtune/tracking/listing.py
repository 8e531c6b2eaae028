"""List a store's runs, sweeps, registered models and datasets, newest first."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segtune.tracking.datasets import entries, reads_in
from segtune.tracking.registry import CHAMPION
from segtune.tracking.run_table import run_table
from segtune.tracking.runs import STUDY_TAG, RunRecord, search_runs
from segtune.tracking.store import Store

Row = dict[str, Any]
_TRAINED_KINDS = ("run", "trial", "confirm", "merge")
_TIME_COLUMNS = ("started", "registered", "first_seen")


@dataclass(frozen=True)
class Listing:
    """The entries of one kind.

    Attributes:
        rows: newest first.
        page: command and address of MLflow's table of runs, see `run_table`.
    """

    kind: str
    rows: Sequence[Row]
    page: tuple[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        command, url = self.page
        return {self.kind: list(self.rows), "mlflow": {"command": command, "url": url}}

    def lines(self) -> list[str]:
        """Return a line of headings and one line for each entry."""
        if not self.rows:
            return [f"no {self.kind} yet"]
        table = [[key.replace("_", " ") for key in self.rows[0]]]
        for row in self.rows:
            table.append([_cell(key, value) for key, value in row.items()])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for cells in table:
            padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
            lines.append("  ".join(padded).rstrip())
        return lines


def list_runs(store: Store) -> list[Row]:
    """List the fine-tuned models, including the trials of sweeps."""
    rows = []
    for run in reversed(search_runs(store, {})):
        if run.tags.get("segtune.kind", "run") in _TRAINED_KINDS:
            rows.append(
                {
                    "run": run.id,
                    "state": run.state,
                    "val_miou": run.miou,
                    "test_miou": run.metrics.get("test/miou"),
                    "template": run.params.get("template"),
                    "dataset": run.params.get("dataset.name"),
                    "name": run.name,
                    "started": _iso_time(run.started),
                }
            )
    return rows


def list_sweeps(store: Store) -> list[Row]:
    """List the sweeps, with the number of their trials by state."""
    trials: dict[tuple[str | None, str | None], list[RunRecord]] = {}
    for run in search_runs(store, {"segtune.kind": "trial"}):
        trials.setdefault(_sweep_key(run), []).append(run)
    rows = []
    for sweep in reversed(search_runs(store, {"segtune.kind": "sweep"})):
        sweep_trials = trials.get(_sweep_key(sweep), [])
        states = Counter(r.state for r in sweep_trials)
        mious = [r.miou for r in sweep_trials if r.miou is not None]
        rows.append(
            {
                "sweep": sweep.tags["segtune.sweep"],
                "state": sweep.state,
                "finished": states["finished"],
                "pruned": states["pruned"],
                "failed": states["failed"],
                "best_val_miou": max(mious, default=None),
                "started": _iso_time(sweep.started),
            }
        )
    return rows


def _sweep_key(run: RunRecord) -> tuple[str | None, str | None]:
    """Return the name and the study of a run's sweep: users of one server may share a name."""
    return run.tags.get("segtune.sweep"), run.tags.get(STUDY_TAG)


def list_models(store: Store) -> list[Row]:
    """List the versions of registered models."""
    versions = store.client.search_model_versions()
    champions = {}
    for model in store.client.search_registered_models():
        champions[model.name] = str((model.aliases or {}).get(CHAMPION))
    return [
        {
            "model": f"models:/{v.name}/{v.version}",
            "champion": champions.get(v.name) == str(v.version),
            "val_miou": _number(v.tags.get("val/miou")),
            "template": v.tags.get("template"),
            "dataset": v.tags.get("dataset"),
            "run": v.run_id,
            "registered": _iso_time(v.creation_timestamp / 1000),
        }
        for v in sorted(versions, key=lambda v: -v.creation_timestamp)
    ]


def list_datasets(store: Store) -> list[Row]:
    """List the splits that runs were measured on, with the number of reads by `evaluate`."""
    splits = entries(store, {"segtune.kind": "dataset"})
    return [
        {
            "dataset": e.tags.get("segtune.dataset.name"),
            "split": e.tags.get("segtune.split"),
            "fingerprint": e.tags.get("segtune.dataset", "")[:12],
            "reads": len(reads_in([e])),
            "first_seen": _iso_time(e.started),
        }
        for e in sorted(splits, key=lambda e: -e.started)
    ]


KINDS: dict[str, Callable[[Store], list[Row]]] = {
    "runs": list_runs,
    "sweeps": list_sweeps,
    "models": list_models,
    "datasets": list_datasets,
}


def listing(store: Store, kind: str) -> Listing:
    """List a store's entries of one kind of `KINDS`."""
    return Listing(kind, KINDS[kind](store), run_table(store))


def _cell(key: str, value: Any) -> str:
    """Format a value for people: short ids and times, a dash for an unknown value."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "–"
    if isinstance(value, float):
        return f"{value:.4f}"
    if key == "run":
        return str(value)[:8]
    if key in _TIME_COLUMNS:
        return str(value)[:16].replace("T", " ")
    return str(value)


def _iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _number(text: str | None) -> float | None:
    return None if text is None else float(json.loads(text))
