"""The tables of a comparison: a CSV file of all runs, and the settings that differ."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from segtune.report.candidates import Candidate
from segtune.runtime.strict_json import read_json
from segtune.tracking.runs import artifact
from segtune.tracking.store import Store

_FIGURES = ("boundary_iou", "ece", "mean_dice", "pixel_accuracy", "fwiou")
_COSTS = ("params_m", "gflops", "latency_ms", "latency_p95_ms", "size_mb")


def runs_csv(facts: Mapping[str, Any]) -> str:
    """Return a CSV table with a row for each run; accuracies are in [0, 1]."""
    classes = [c["name"] for c in facts.get("split", {}).get("classes", [])]
    more: list[str] = sorted(set().union(*(c["more_metrics"] for c in facts["candidates"])))
    params: list[str] = sorted(set().union(*(c["params"] for c in facts["candidates"])))
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(
        ["candidate", "run", "seed", "miou", "low", "high"]
        + [*_FIGURES, *_COSTS, "device", "seconds", "trials"]
        + [f"iou/{name}" for name in classes]
        + more
        + params
    )
    for row in facts["candidates"]:
        interval = row["interval"] or {"low": "", "high": ""}
        for run in row["runs"]:
            writer.writerow(
                [row["name"], run["run"], run["seed"], run["miou"]]
                + [interval["low"], interval["high"]]
                + [row[key] for key in _FIGURES]
                + [row["cost"].get(key, "") for key in _COSTS]
                + [row["device"], run["seconds"], row["trials"]]
                + [row["iou"][name] for name in classes]
                + [row["more_metrics"].get(name, "") for name in more]
                + [row["params"].get(key, "") for key in params]
            )
    return buffer.getvalue()


def differing_settings(store: Store, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return the configuration, data, code and environment that differ between candidates.

    Returns:
        `candidates`, their names, and `rows`, the values of each setting, one per candidate.
    """
    rows = all_settings(store, candidates)
    differing = {key: values for key, values in rows.items() if len(set(values)) > 1}
    return {"candidates": [c.name for c in candidates], "rows": differing}


def all_settings(store: Store, candidates: Sequence[Candidate]) -> dict[str, list[str | None]]:
    """Return each setting's values, one per candidate: parameters first, libraries last."""
    columns = [_settings(store, candidate) for candidate in candidates]
    keys: set[str] = set().union(*columns)
    ordered = sorted(keys, key=lambda key: (key.startswith(("library", "machine")), key))
    return {key: [column.get(key) for column in columns] for key in ordered}


def _settings(store: Store, candidate: Candidate) -> dict[str, str]:
    run = candidate.first
    path = artifact(store, run.id, "environment.json")
    environment = read_json(path) if path else {}
    libraries = environment.pop("libraries", None)
    libraries = libraries if isinstance(libraries, dict) else {}
    settings = dict(run.params)
    settings |= {f"library {name}": version for name, version in libraries.items()}
    settings |= {f"machine {key}": str(value) for key, value in environment.items()}
    commit = run.tags.get("mlflow.source.git.commit", "")[:12]
    settings["train split"] = run.tags.get("segtune.dataset.train", "")[:12]
    settings["code"] = commit or run.tags.get("segtune.version", "")
    settings["uncommitted changes"] = run.tags.get("segtune.git.dirty", "")
    settings["seed"] = ", ".join(str(r.params.get("seed")) for r in candidate.runs)
    return settings
