"""The page of registered models: versions, decisions of the gate, and the command of a rollback."""

import json
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from segtune.config.commands import command
from segtune.serving.ui.pages import render
from segtune.tracking.listing import list_models
from segtune.tracking.runs import artifact
from segtune.tracking.store import Store


def routes(store: Store) -> APIRouter:
    """Return the route of the registry."""
    router = APIRouter()

    @router.get("/registry")
    def registry() -> HTMLResponse:
        models: dict[str, dict[str, Any]] = {}
        for row in list_models(store):
            name, _, version = row["model"].removeprefix("models:/").rpartition("/")
            rollback = command("rollback", model=name, tracking=store.tracking)
            model = models.setdefault(name, {"rows": [], "decisions": [], "rollback": rollback})
            model["rows"].append(row | {"version": version})
            model["decisions"] += _decisions(store, row["run"], name, int(version))
        for model in models.values():
            model["decisions"].sort(key=lambda decision: decision["time"], reverse=True)
        return HTMLResponse(render("registry.html.j2", models=models))

    return router


def _decisions(store: Store, run: str, model: str, version: int) -> list[dict[str, Any]]:
    """Return the decisions of the gate about one version, which its run keeps."""
    folder = artifact(store, run, "promotions")
    decisions = []
    for path in sorted(folder.rglob("*.json")) if folder else []:
        decision = json.loads(path.read_text(encoding="utf-8"))
        if (decision["model"], decision["version"]) == (model, version):
            decisions.append(decision)
    return decisions
