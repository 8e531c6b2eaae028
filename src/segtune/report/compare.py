"""The comparison report: one HTML file that opens from disk, and the same numbers as JSON."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader
from PIL import Image

from segtune import __version__
from segtune.errors import ConfigError, StorageError
from segtune.report.figures import Figure, class_heatmap, importance_bars, learning_curves, plotly_script
from segtune.sweeping.records import importance
from segtune.tracking.runs import RunRecord, artifact, curve, get_run, sweep_runs
from segtune.tracking.store import Store

_CURVES, _ROWS, _OVERLAYS = 24, 24, 6
_COLUMNS = {"template": 0, "hp": 1}  # what a reader looks for first; the rest follows


@dataclass(frozen=True)
class Report:
    """Where a report lies, and its best run."""

    html: Path
    json: Path
    best: RunRecord | None
    runs: int

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object, for scripts."""
        data: dict[str, Any] = {"html": str(self.html), "json": str(self.json), "runs": self.runs}
        if self.best is None:
            return data
        return data | {"run": self.best.id, "uri": f"runs:/{self.best.id}", "metrics": {"val/miou": self.best.miou}}


def compare(store: Store, names: Sequence[str], output: Path | None = None) -> Report:
    """Compares the trials of sweeps, or single runs by id.

    Args:
        output: folder of the report; by default `reports/NAME` in the store's root.

    Raises:
        ConfigError: no such sweep or run, nothing to compare yet, or runs of different class tables or val splits.
        StorageError: the report cannot be written.
    """
    runs = _collect(store, names)
    finished = sorted((r for r in runs if r.miou is not None), key=lambda r: -(r.miou or 0))
    _check_comparable(store, finished)
    ordered = finished + [r for r in runs if r.miou is None]
    figures, classes = _figures(store, names, ordered, finished)
    facts = _facts(store, names, ordered, classes)
    folder = output or store.root / "reports" / "-".join(n[:32] for n in names)[:100]
    page = _page(facts, figures, _overlays(store, finished[0]) if finished else {})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "report.json", json.dumps(facts, indent=1, ensure_ascii=False))
        _write(folder / "index.html", page)
    except OSError as error:
        raise StorageError(f"the report '{folder}' cannot be written: {error}. Set output=DIR.") from None
    return Report(folder / "index.html", folder / "report.json", finished[0] if finished else None, len(ordered))


def _collect(store: Store, names: Sequence[str]) -> list[RunRecord]:
    runs: dict[str, RunRecord] = {}
    for name in names:
        of_sweep = sweep_runs(store, name)
        for run in of_sweep or [get_run(store, name.removeprefix("runs:/"))]:
            runs[run.id] = run
    if not runs:
        raise ConfigError("compare needs the name of a sweep or ids of runs.")
    return list(runs.values())


def _check_comparable(store: Store, runs: Sequence[RunRecord]) -> None:
    datasets = {r.tags.get("segtune.dataset"): r for r in runs}
    if len(datasets) > 1:
        rows = "; ".join(f"{r.name}: {r.params.get('dataset.name')} ({str(d)[:12]})" for d, r in datasets.items())
        raise ConfigError(f"these runs were measured on different val splits and cannot be compared: {rows}.")


def _figures(
    store: Store, names: Sequence[str], ordered: Sequence[RunRecord], finished: Sequence[RunRecord]
) -> tuple[list[Figure], list[str]]:
    curves = {r.name: curve(store, r.id, "val/miou") for r in ordered[:_CURVES]}
    curves = {n: points for n, points in curves.items() if points}
    figures = [learning_curves(curves, [r.name for r in ordered if r.state == "pruned" and r.name in curves])]
    classes: list[str] = []
    if finished:
        classes = _class_names(store, finished[0])
        rows = [[r.metrics.get(f"best/val/iou/{c}") for c in classes] for r in finished[:_ROWS]]
        figures.insert(0, class_heatmap([r.name for r in finished[:_ROWS]], classes, rows))
    shares: Mapping[str, float] = {}
    if len(names) == 1:
        shares = importance(store.root / "sweeps" / names[0], names[0])
    if shares:
        figures.append(importance_bars(shares))
    return figures, classes


def _class_names(store: Store, run: RunRecord) -> list[str]:
    path = artifact(store, run.id, "classes.json")
    return [c["name"] for c in json.loads(path.read_text(encoding="utf-8"))] if path else []


def _facts(store: Store, names: Sequence[str], runs: Sequence[RunRecord], classes: Sequence[str]) -> dict[str, Any]:
    keys = sorted({k for r in runs for k in r.params}, key=lambda k: (_COLUMNS.get(k.split(".")[0], 2), k))
    varied = [k for k in keys if len({r.params.get(k) for r in runs}) > 1]
    rows = []
    for run in runs:
        path = artifact(store, run.id, "config.yaml")
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path else {}
        rows.append(
            {
                "run": run.id,
                "name": run.name,
                "state": run.state,
                "miou": run.miou,
                "last_val_miou": run.metrics.get("val/miou"),
                "iou": {c: run.metrics.get(f"best/val/iou/{c}") for c in classes},
                "epochs": int(run.metrics["epoch"]) + 1 if "epoch" in run.metrics else None,
                "seconds": round(run.seconds, 1),
                "seed": config.get("seed"),
                "params": {k: run.params.get(k) for k in varied},
                "dataset": run.params.get("dataset.name"),
                "commit": run.tags.get("mlflow.source.git.commit"),
            }
        )
    return {
        "segtune": __version__,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "compared": list(names),
        "store": store.uri,
        "varied": varied,
        "classes": list(classes),
        "runs": rows,
    }


def _overlays(store: Store, run: RunRecord) -> dict[str, str]:
    """The best run's validation images as data URIs."""
    folder = artifact(store, run.id, "overlays")
    if folder is None:
        return {}
    pictures = {}
    for path in sorted(folder.glob("*.png"))[:_OVERLAYS]:
        with Image.open(path) as image:
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=88)
        pictures[path.stem] = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return pictures


def _page(facts: Mapping[str, Any], figures: Sequence[Figure], overlays: Mapping[str, str]) -> str:
    environment = Environment(loader=PackageLoader("segtune", "report"), autoescape=True)
    environment.filters["short"] = _short
    template = environment.get_template("report.html.j2")
    finished = [r for r in facts["runs"] if r["miou"] is not None]
    return template.render(
        facts=facts, figures=figures, overlays=overlays, best=finished[0] if finished else None, finished=finished,
        plotly=plotly_script(),
    )  # fmt: skip


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


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
