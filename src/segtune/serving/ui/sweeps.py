"""The pages of sweeps: all of a store, and one as it runs."""

import asyncio
import shlex
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from segtune.config.commands import command
from segtune.errors import ConfigError, nearest
from segtune.report.cost import shared_latency
from segtune.report.figures import Figure, pareto
from segtune.report.sweep_figures import SweepFacts, sweep_figures
from segtune.runtime.addresses import without_password
from segtune.serving.ui.events import Feed, changes, param_keys
from segtune.serving.ui.pages import macro, render
from segtune.sweeping.listing import started_sweeps
from segtune.sweeping.live import LiveSweep
from segtune.sweeping.location import address, sweep_folder
from segtune.sweeping.records import front, log_params, trial_rows
from segtune.tracking.run_table import table_command
from segtune.tracking.store import Store


class Sweeps:
    """The sweeps of a store; one that somebody has looked at stays open."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._feeds: dict[str, Feed] = {}

    def feed(self, name: str) -> Feed:
        """Return the feed of a sweep.

        Raises:
            ConfigError: no such sweep.
            StorageError: its study cannot be read.
        """
        if name not in self._feeds:
            folders = (self.store.root / "sweeps").glob("*/")
            names = [folder.name for folder in folders]
            if name not in names:
                hint = nearest(name, names)
                raise ConfigError(f"there is no sweep '{name}' in this store; {hint}")
            self._feeds[name] = Feed(LiveSweep(sweep_folder(self.store.root, name)))
        return self._feeds[name]


def routes(store: Store) -> APIRouter:
    """Return the routes of sweeps."""
    router, sweeps = APIRouter(), Sweeps(store)

    @router.get("/sweeps")
    def all_sweeps() -> HTMLResponse:
        rows = started_sweeps(str(store.root))
        serve, url = table_command(store)
        page = render("sweeps.html.j2", sweeps=rows, mlflow=serve, mlflow_url=url)
        return HTMLResponse(page)

    @router.get("/sweeps/{name}")
    def one_sweep(name: str) -> HTMLResponse:
        sweep = sweeps.feed(name).sweep
        state = sweep.read()
        page = render(
            "sweep.html.j2",
            state=state,
            keys=param_keys(state),
            start={**changes(None, state), "parts": {}},
            front=front(sweep.study),
            steps=_steps(store, name),
        )
        return HTMLResponse(page)

    @router.get("/sweeps/{name}/figures")
    def figures(name: str) -> JSONResponse:
        drawn = _figures(sweeps.feed(name).sweep)
        return JSONResponse([vars(figure) for figure in drawn])

    @router.get("/sweeps/{name}/front")
    def front_part(name: str) -> HTMLResponse:
        rows = front(sweeps.feed(name).sweep.study)
        return HTMLResponse(macro("sweep_parts.html.j2", "front")(rows))

    @router.get("/sweeps/{name}/events")
    async def events(name: str) -> StreamingResponse:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        feed = await asyncio.to_thread(sweeps.feed, name)
        return StreamingResponse(feed.follow(), headers=headers, media_type="text/event-stream")

    return router


def _figures(sweep: LiveSweep) -> list[Figure]:
    """Return the report's figures of the trials that have ended."""
    study = sweep.study
    trials = trial_rows(study)
    figures = sweep_figures(SweepFacts(trials, log_params=log_params(study)), {}, [])
    measured: list[dict[str, Any]] = []
    for row in trials:
        if row["state"] == "complete" and row["cost"]:
            facts = {"name": f"trial {row['number']}", "device": "", "miou": row["miou"]}
            measured.append(facts | {"cost": row["cost"]})
    for row, latency in zip(measured, shared_latency(measured), strict=True):
        row["latency"] = latency
    return [*figures, pareto({"candidates": measured})] if measured else figures


def _steps(store: Store, name: str) -> dict[str, str]:
    """Return commands for a sweep, each with its purpose."""
    tracking = store.tracking
    steps = {
        "Compare the trials": command("compare", name, tracking=tracking),
        "Progress in a terminal": command("status", name, tracking=tracking),
        "Stop; unfinished trials return to the queue": command("stop", name, tracking=tracking),
        "Retrain the best with new seeds": command("confirm", name, tracking=tracking),
    }
    serve, _ = table_command(store)
    if serve:
        steps["MLflow's table of runs"] = serve
    folder = sweep_folder(store.root, name)
    database = address(folder)
    study = without_password(database) if database else str(folder / "journal.log")
    return steps | {"optuna-dashboard": shlex.join(["optuna-dashboard", study])}
