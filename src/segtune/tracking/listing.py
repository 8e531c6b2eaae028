"""What a store holds, newest first: runs, sweeps, registered models and datasets, as rows of plain data."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segtune.tracking.datasets import entries, reads_in
from segtune.tracking.registry import CHAMPION
from segtune.tracking.runs import RunRecord, search_runs
from segtune.tracking.store import Store, run_table

Row = dict[str, Any]
_TRAINED = ("run", "trial", "confirm")


@dataclass(frozen=True)
class Listing:
    """Entries of one kind.

    Attributes:
        rows: newest first.
        page: command and address that show the runs in MLflow; the command is empty for a server, both are
            where it cannot be reached.
    """

    kind: str
    rows: Sequence[Row]
    page: tuple[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            self.kind: list(self.rows),
            "mlflow": {"command": self.page[0], "url": self.page[1]},
        }

    def lines(self) -> list[str]:
        """One line for each entry, under a line of headings."""
        if not self.rows:
            return [f"no {self.kind} yet"]
        cells = [[_cell(key, row[key]) for key in row] for row in self.rows]
        heads = [key.replace("_", " ") for key in self.rows[0]]
        widths = [max(len(row[n]) for row in (heads, *cells)) for n in range(len(heads))]
        return [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in (heads, *cells)
        ]


def list_runs(store: Store) -> list[Row]:
    """Fine-tuned models, a sweep's trials among them."""
    runs = [r for r in search_runs(store, {}) if r.tags.get("segtune.kind", "run") in _TRAINED]
    return [
        {
            "run": r.id, "state": r.state, "val_miou": r.miou, "test_miou": r.metrics.get("test/miou"),
            "template": r.params.get("template"), "dataset": r.params.get("dataset.name"), "name": r.name,
            "started": _time(r.started),
        }
        for r in reversed(runs)
    ]  # fmt: skip


def list_sweeps(store: Store) -> list[Row]:
    """Sweeps with the number of their trials that kept a run."""
    trials: dict[str, list[RunRecord]] = {}
    for run in search_runs(store, {"segtune.kind": "trial"}):
        trials.setdefault(run.tags.get("segtune.sweep", ""), []).append(run)
    rows = []
    for run in reversed(search_runs(store, {"segtune.kind": "sweep"})):
        own = trials.get(run.tags["segtune.sweep"], [])
        states = Counter(r.state for r in own)
        best = max((r.miou for r in own if r.miou is not None), default=None)
        rows.append({
            "sweep": run.tags["segtune.sweep"], "state": run.state, "finished": states["finished"],
            "pruned": states["pruned"], "failed": states["failed"], "best_val_miou": best,
            "started": _time(run.started),
        })  # fmt: skip
    return rows


def list_models(store: Store) -> list[Row]:
    """Versions of registered models."""
    found = store.client.search_model_versions()
    champions = {
        m.name: (m.aliases or {}).get(CHAMPION) for m in store.client.search_registered_models()
    }
    return [
        {
            "model": f"models:/{v.name}/{v.version}",
            "champion": str(champions.get(v.name)) == str(v.version), "val_miou": _number(v.tags.get("val/miou")),
            "template": v.tags.get("template"), "dataset": v.tags.get("dataset"), "run": v.run_id,
            "registered": _time(v.creation_timestamp / 1000),
        }
        for v in sorted(found, key=lambda v: -v.creation_timestamp)
    ]  # fmt: skip


def list_datasets(store: Store) -> list[Row]:
    """Splits that runs were measured on, with the number of times that each was read through `evaluate`."""
    found = entries(store, {"segtune.kind": "dataset"})
    return [
        {
            "dataset": e.tags.get("segtune.dataset.name"), "split": e.tags.get("segtune.split"),
            "fingerprint": e.tags.get("segtune.dataset", "")[:12], "reads": len(reads_in([e])),
            "first_seen": _time(e.started),
        }
        for e in sorted(found, key=lambda e: -e.started)
    ]  # fmt: skip


KINDS: dict[str, Callable[[Store], list[Row]]] = {
    "runs": list_runs, "sweeps": list_sweeps, "models": list_models, "datasets": list_datasets,
}  # fmt: skip


def listing(store: Store, kind: str) -> Listing:
    """What a store holds of a kind, one of `KINDS`."""
    return Listing(kind, KINDS[kind](store), run_table(store))


def _cell(key: str, value: Any) -> str:
    """A value for people: ids and times are cut, what is unknown is a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "–"
    if isinstance(value, float):
        return f"{value:.4f}"
    if key == "run":
        return str(value)[:8]
    return (
        str(value)[:16].replace("T", " ")
        if key in ("started", "registered", "first_seen")
        else str(value)
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _number(text: str | None) -> float | None:
    return None if text is None else float(json.loads(text))
