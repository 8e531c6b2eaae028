"""The pages of runs: a table of all, and one run with its config, curves, classes and overlays."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from segtune.config.commands import command
from segtune.errors import ConfigError
from segtune.serving.ui.pages import render
from segtune.serving.ui.run_figures import run_figures
from segtune.tracking.evidence import evaluate_command, load_evidence
from segtune.tracking.listing import list_runs
from segtune.tracking.registry import is_active
from segtune.tracking.run_table import table_command
from segtune.tracking.runs import RunRecord, artifact, get_run
from segtune.tracking.store import Store

_MOST_ROWS = 2000  # newest runs in the table
_EVIDENCE = "segtune.evidence."


def routes(store: Store) -> APIRouter:
    """Return the routes of runs."""
    router = APIRouter()

    @router.get("/runs")
    def all_runs() -> HTMLResponse:
        rows = list_runs(store)
        serve, url = table_command(store)
        values = {"runs": rows[:_MOST_ROWS], "count": len(rows), "mlflow": serve, "mlflow_url": url}
        return HTMLResponse(render("runs.html.j2", **values))

    @router.get("/runs/{run_id}")
    def one_run(run_id: str) -> HTMLResponse:
        run = get_run(store, run_id)
        config = artifact(store, run.id, "config.yaml")
        page = render(
            "run.html.j2",
            run=run,
            splits=_splits(store, run),
            overlays=[path.stem for path in _overlays(store, run)],
            config=config.read_text(encoding="utf-8") if config else "",
            steps=_steps(store, run),
        )
        return HTMLResponse(page)

    @router.get("/runs/{run_id}/figures")
    def figures(run_id: str) -> JSONResponse:
        return JSONResponse([vars(drawn) for drawn in run_figures(store, get_run(store, run_id))])

    @router.get("/runs/{run_id}/overlays/{number}")
    def overlay(run_id: str, number: int) -> FileResponse:
        paths = _overlays(store, get_run(store, run_id))
        if not 0 <= number < len(paths):
            raise ConfigError(f"run {run_id} keeps {len(paths)} overlays; there is no {number}.")
        return FileResponse(paths[number])

    return router


def splits_of(run: RunRecord) -> list[str]:
    """Return the splits on which a run was measured."""
    return [key.removeprefix(_EVIDENCE) for key in run.tags if key.startswith(_EVIDENCE)]


def _splits(store: Store, run: RunRecord) -> list[dict[str, Any]]:
    """Return the figures of each measured split, with a row for each class."""
    splits = []
    for name in splits_of(run):
        evidence = load_evidence(store, run, name)
        if evidence is None:
            continue
        classes = zip(evidence.classes, evidence.scores.iou, evidence.boundary_iou, strict=True)
        splits.append(
            {
                "name": name,
                "dataset": evidence.origin.dataset,
                "images": len(evidence.names),
                "metrics": evidence.metrics(),
                "classes": list(classes),
            }
        )
    return splits


def _overlays(store: Store, run: RunRecord) -> list[Path]:
    folder = artifact(store, run.id, "overlays")
    return sorted(folder.rglob("*.png")) if folder else []


def _steps(store: Store, run: RunRecord) -> dict[str, str]:
    """Return commands for a run, each with its purpose."""
    steps = {}
    if run.tags.get("segtune.command"):
        steps["Train it again"] = run.tags["segtune.command"]
    if run.miou is not None and is_active(store, run.id):
        # the page opens no dataset, which might download it
        model, tracking = f"runs:/{run.id}", store.tracking
        predict = command("predict", model=model, source="PATH", output="DIR", tracking=tracking)
        steps["Apply it to images"] = predict
        steps["Measure it on the test split"] = evaluate_command(store, run, "test")
    return steps
