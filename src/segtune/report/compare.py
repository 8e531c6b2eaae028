"""The comparison report: one HTML file that opens from disk, and the same numbers as JSON and CSV."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from segtune.classes import ClassTable
from segtune.config.commands import command
from segtune.errors import ConfigError, StorageError, nearest
from segtune.report.candidates import Candidate, Comparison, collect
from segtune.report.card import card_text
from segtune.report.facts import gather
from segtune.report.figures import Figure, comparison_figures, plotly_script
from segtune.report.phrasing import points
from segtune.report.pictures import Picture, choose_pictures
from segtune.report.sweep_figures import sweep_figures
from segtune.runtime.atomic import atomic_file
from segtune.runtime.filenames import folder_name
from segtune.runtime.strict_json import to_json
from segtune.sweeping.importance import importance
from segtune.sweeping.location import sweep_folder
from segtune.sweeping.records import load_study, trial_rows
from segtune.tracking.evidence import evaluate_command
from segtune.tracking.recorded import advice_on_test_split
from segtune.tracking.runs import artifact, curve
from segtune.tracking.store import Store
from segtune.tracking.suggesting import predict_command

_CURVES, _DIFFERING, _RELIABILITY = 60, 8, 5


@dataclass(frozen=True)
class Report:
    """Where a report lies, and what it says.

    Attributes:
        facts: the content of its JSON file.
        best: the candidate of highest mIoU; None where no run has finished.
    """

    html: Path
    json: Path
    csv: Path
    facts: Mapping[str, Any]
    best: Candidate | None

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object, for scripts."""
        data: dict[str, Any] = {
            "html": str(self.html),
            "json": str(self.json),
            "csv": str(self.csv),
        }
        data |= {
            "runs": self.runs,
            "verdict": self.facts["verdict"],
            "warnings": self.facts["warnings"],
        }
        if self.best is None:
            return data
        first = self.best.first
        return data | {"run": first.id, "uri": first.uri or f"runs:/{first.id}",
                       "metrics": {f"{self.facts['split']['name']}/miou": self.best.miou}}  # fmt: skip

    @property
    def runs(self) -> int:
        """How many runs it tells of."""
        return sum(len(c["runs"]) for c in self.facts["candidates"]) + len(self.facts["others"])


def compare(
    store: Store,
    names: Sequence[str],
    output: Path | None = None,
    baseline: str | None = None,
    split: str = "val",
    storage: str | None = None,
) -> Report:
    """Compares the trials of sweeps, single runs and registered versions.

    Args:
        output: folder of the report; by default `reports/NAME` in the store's root.
        baseline: name or run id of the candidate that the others are compared with; by default the first of two that
            were named, else the best.
        storage: address of the sweep's study, where the store does not know it.

    Raises:
        ConfigError: nothing to compare, or what cannot be compared; see `collect`.
        StorageError: the report cannot be written.
    """
    comparison = collect(store, names, split)
    base = _baseline(comparison, names, baseline)
    facts = gather(store, comparison, names, base)
    facts["next"] = _next(store, comparison, facts)
    facts["differs"] = _differs(store, comparison.candidates[:_DIFFERING])
    history = _of_sweep(store, comparison, facts, storage)
    folder = output or store.root / "reports" / folder_name(*names)
    files = {
        "index.html": _page(store, comparison, facts, base, history),
        "report.json": to_json(facts, indent=1, ensure_ascii=False),
        "runs.csv": _csv(facts),
    }
    if comparison.candidates:
        files["README.md"] = card_text(facts, facts["candidates"][0])
    try:
        with ExitStack() as stack:  # all files are complete before the first gets its name
            for name, text in files.items():
                unfinished = stack.enter_context(atomic_file(folder / name))
                unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"the report '{folder}' cannot be written: {error}. Set output=DIR."
        ) from None
    best = comparison.candidates[0] if comparison.candidates else None
    return Report(folder / "index.html", folder / "report.json", folder / "runs.csv", facts, best)


def _next(store: Store, comparison: Comparison, facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """What to do with the best: a command each, with what it does."""
    if not comparison.candidates:
        return []
    best, tracking = comparison.candidates[0].first, store.tracking
    rows = [("Train the best again on fresh seeds", command("confirm", s, tracking=tracking))
            for s in comparison.sweeps[:1] if len(comparison.sweeps) == 1]  # fmt: skip
    if not advice_on_test_split(store, best.id):
        rows.append(("Measure the best on the test split", evaluate_command(store, best, "test")))
    if not best.uri:  # else it is registered, and its run is gone
        register = command("promote", best.id, model=facts["split"]["dataset"], tracking=tracking)
        rows.append(("Register the best, if the gate lets it", register))
    rows.append(("Use the best", predict_command(store, best.uri or f"runs:/{best.id}")))
    return [{"what": what, "command": line} for what, line in rows]


def _baseline(comparison: Comparison, names: Sequence[str], wanted: str | None) -> Candidate | None:
    candidates = comparison.candidates
    if not candidates:
        return None
    if wanted is None:
        wanted = names[0] if len(names) == 2 and len(candidates) == 2 else candidates[0].name
    wanted = wanted.removeprefix("runs:/")
    for candidate in candidates:
        if wanted == candidate.name or any(
            r.id.startswith(wanted) or r.name == wanted for r in candidate.runs
        ):
            return candidate
    if wanted == names[0]:  # a sweep or a version, of which one candidate is left
        return candidates[0]
    raise ConfigError(
        f"baseline={wanted}: no such candidate; {nearest(wanted, [c.name for c in candidates])}"
    )


def _differs(store: Store, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """What differs between candidates: configuration, data, code, environment, a row for each key."""
    columns = []
    for candidate in candidates:
        run = candidate.first
        path = artifact(store, run.id, "environment.json")
        environment = json.loads(path.read_text(encoding="utf-8")) if path else {}
        told = dict(run.params) | {
            f"library {k}": v for k, v in environment.pop("libraries", {}).items()
        }
        told |= {f"machine {k}": str(v) for k, v in environment.items()}
        told |= {
            "train split": run.tags.get("segtune.dataset.train", "")[:12],
            "code": run.tags.get("mlflow.source.git.commit", "")[:12]
            or run.tags.get("segtune.version", ""),
            "uncommitted changes": run.tags.get("segtune.git.dirty", ""),
        }
        told["seed"] = ", ".join(str(r.params.get("seed")) for r in candidate.runs)
        columns.append(told)
    keys = sorted(
        {k for c in columns for k in c}, key=lambda k: (k.startswith(("library", "machine")), k)
    )
    rows = {k: [c.get(k) for c in columns] for k in keys if len({c.get(k) for c in columns}) > 1}
    return {"candidates": [c.name for c in candidates], "rows": rows}


def _page(
    store: Store,
    comparison: Comparison,
    facts: Mapping[str, Any],
    base: Candidate | None,
    history: Sequence[Figure],
) -> str:
    figures: list[Figure] = []
    pictures: list[Picture] = []
    candidates = comparison.candidates
    if candidates:
        best = candidates[0]
        shown = {
            c.name: c for c in [best, *([base] if base else []), *candidates][: _RELIABILITY + 1]
        }
        curves = {
            n: c.evidence[0].calibration.points() for n, c in list(shown.items())[:_RELIABILITY]
        }
        matrix = np.sum([e.matrices.sum(0) for e in best.evidence], axis=0)
        figures = comparison_figures(facts, {"matrix": matrix.tolist(), "reliability": curves})
        other = base if base is not best else candidates[1] if len(candidates) > 1 else None
        pictures = choose_pictures(store, best, other, _classes(store, best))
    figures += history
    environment = Environment(
        loader=PackageLoader("segtune", "report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"short": _short, "points": points}
    varied = _varied([row["params"] for row in (*facts["candidates"], *facts["others"])])
    return environment.get_template("report.html.j2").render(
        facts=facts, figures=figures, pictures=pictures, varied=varied, best=(facts["candidates"] or [None])[0],
        plotly=plotly_script(), sweep=comparison.sweeps[0] if len(comparison.sweeps) == 1 else None,
    )  # fmt: skip


def _varied(params: Sequence[Mapping[str, str]]) -> list[str]:
    """The parameters that are not the same in all runs; a run that lacks one differs from those that have it."""
    keys = sorted({key for row in params for key in row} - {"seed"}, key=_first_what_is_looked_for)
    return [key for key in keys if len({row.get(key) for row in params}) > 1]


def _of_sweep(
    store: Store, comparison: Comparison, facts: dict[str, Any], storage: str | None
) -> list[Figure]:
    """Curves, history, importance and slices; a study that cannot be read becomes a warning of the report."""
    runs = [r for c in comparison.candidates for r in c.runs] + list(comparison.others)
    count = Counter(r.name for r in runs)
    names = {r.id: r.name if count[r.name] == 1 else f"{r.name} {r.id[:6]}" for r in runs}
    curves = {
        names[r.id]: points for r in runs[:_CURVES] if (points := curve(store, r.id, "val/miou"))
    }
    pruned = [names[r.id] for r in runs if r.state == "pruned"]
    study, shares = None, {}
    if len(comparison.sweeps) == 1:
        name = comparison.sweeps[0]
        try:
            study = load_study(sweep_folder(store.root, name), name, storage)
            shares = dict(importance(study))
        except (StorageError, ConfigError) as error:
            facts["warnings"].append(f"no history, importance and slices: {error}")
    return sweep_figures(trial_rows(study) if study else [], curves, pruned, shares)


def _classes(store: Store, candidate: Candidate) -> ClassTable:
    path = artifact(store, candidate.first.id, "classes.json")
    if path is None:
        return ClassTable.parse(list(candidate.evidence[0].origin.classes))
    return ClassTable.parse(json.loads(path.read_text(encoding="utf-8")))


def _csv(facts: Mapping[str, Any]) -> str:
    """A row for each run: figures in [0, 1]."""
    buffer = io.StringIO()
    classes = [c["name"] for c in facts.get("split", {}).get("classes", [])]
    keys = sorted({k for c in facts["candidates"] for k in c["params"]})
    figures = ("boundary_iou", "ece", "mean_dice", "pixel_accuracy", "fwiou")
    costs = ("params_m", "gflops", "latency_ms", "latency_p95_ms", "size_mb")
    writer = csv.writer(buffer)
    writer.writerow(["candidate", "run", "seed", "miou", "low", "high", *figures, *costs, "device", "seconds", "trials",
                     *(f"iou/{c}" for c in classes), *keys])  # fmt: skip
    for row in facts["candidates"]:
        interval = row["interval"] or {"low": "", "high": ""}
        for run in row["runs"]:
            writer.writerow(
                [row["name"], run["run"], run["seed"], run["miou"], interval["low"], interval["high"],
                 *(row[f] for f in figures), *(row["cost"].get(c, "") for c in costs), row["device"], run["seconds"],
                 row["trials"], *(row["iou"][c] for c in classes), *(row["params"].get(k, "") for k in keys)]
            )  # fmt: skip
    return buffer.getvalue()


def _first_what_is_looked_for(key: str) -> tuple[int, str]:
    return {"template": 0, "hp": 1}.get(key.split(".")[0], 2), key


def _short(value: str | None) -> str:
    """A parameter for a narrow column: numbers with three significant digits.

    >>> _short("0.00021838272691163758"), _short("resnet18"), _short(None)
    ('0.000218', 'resnet18', '–')
    """
    if value is None:
        return "–"
    try:
        return value if value.isdigit() else f"{float(value):.3g}"
    except ValueError:
        return value
