"""The application of `segtune ui`: its routes, its files, and the page of an error."""

from functools import cache
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

import segtune
from segtune.errors import ConfigError, DataError, SegtuneError, StorageError
from segtune.pages.rendering import FOLDER
from segtune.report.figures import plotly_script
from segtune.serving.ui import comparing, datasets, registry, runs, sweeps
from segtune.serving.ui.entry import Entry
from segtune.serving.ui.pages import render
from segtune.tracking.store import Store

_STATIC = Path(__file__).with_name("static")
_STATUS = {ConfigError: 404, DataError: 422, StorageError: 503}


def create_app(store: Store, token: str | None = None) -> FastAPI:
    """Build the application that `segtune ui` runs.

    Args:
        store: of `open_for_reading`.
        token: that a client must know; None on loopback.
    """
    app = FastAPI(title="segtune ui", version=segtune.__version__, docs_url=None, redoc_url=None)
    app.add_middleware(Entry, token=token)
    app.exception_handler(SegtuneError)(_on_error)
    app.exception_handler(404)(_on_unknown)
    _add_files(app)
    for pages in (sweeps, runs, comparing, datasets, registry):
        app.include_router(pages.routes(store))
    return app


def _add_files(app: FastAPI) -> None:
    @app.get("/")
    def start() -> RedirectResponse:
        return RedirectResponse("/sweeps")

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        content = _files().get(name)
        if content is None:
            return Response("no such file", 404, media_type="text/plain")
        # our own scripts change with the version; plotly's is large
        headers = {"Cache-Control": "max-age=3600" if name == "plotly.js" else "no-cache"}
        return Response(content, headers=headers, media_type="text/javascript")


@cache
def _files() -> dict[str, str]:
    files = {path.name: path.read_text(encoding="utf-8") for path in _STATIC.glob("*.js")}
    files["table.js"] = (FOLDER / "table.js").read_text(encoding="utf-8")
    return files | {"plotly.js": plotly_script()}


async def _on_error(_: Request, error: Exception) -> HTMLResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    return HTMLResponse(render("error.html.j2", message=str(error)), status)


async def _on_unknown(_: Request, error: Exception) -> HTMLResponse:
    return HTMLResponse(render("error.html.j2", message="There is no such page."), 404)
