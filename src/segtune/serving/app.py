"""The HTTP application: its page, its routes, and the answers to faults."""

import asyncio
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException

import segtune
from segtune.errors import ConfigError, DataError
from segtune.pages.rendering import FOLDER as SHARED_PAGE
from segtune.serving.answers import Answer, answer, chosen
from segtune.serving.bodies import read_body, upload_of
from segtune.serving.computing import SegmentedImage
from segtune.serving.description import described
from segtune.serving.gate import GateMiddleware
from segtune.serving.hosted_routes import add_hosted
from segtune.serving.job_routes import add_jobs
from segtune.serving.predictor import IMAGE_OPTIONS, parse_options
from segtune.serving.problems import Problem
from segtune.serving.refusals import refusal_of
from segtune.serving.served import ModelSlot
from segtune.serving.settings import ServerSettings
from segtune.serving.shared import Server, model_header

_PAGE = Path(__file__).with_name("page")
_PAGE_PARTS = {
    "page.js": _PAGE / "page.js",
    "page.css": _PAGE / "page.css",
    "base.css": SHARED_PAGE / "base.css",
}
_PAGE_HEADERS = {  # the browser itself refuses what is not this server's
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src blob:; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}


def create_app(slot: ModelSlot, settings: ServerSettings) -> FastAPI:
    """Build the application that `segtune serve` runs."""
    server = Server(slot, settings)
    app = FastAPI(
        title="segtune",
        version=segtune.__version__,
        summary="A segmenter over HTTP: images in, labelled regions out.",
        lifespan=server.running,
        docs_url=None,  # these pages load scripts of other hosts
        redoc_url=None,
    )
    app.add_middleware(GateMiddleware, gate=server.gate)
    for fault in (Problem, HTTPException, Exception):
        app.exception_handler(fault)(_on_fault)
    _add_operation(app, server)
    _add_segment(app, server)
    add_hosted(app, server)
    add_jobs(app, server)
    return app


async def _on_fault(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, Problem):
        problem = error
    elif isinstance(error, HTTPException):
        problem = Problem(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
    else:
        problem = Problem(500, "the server failed; its log has the reason.")
    return refusal_of(problem, request.url.path)


def _add_operation(app: FastAPI, server: Server) -> None:
    """Add the page and what operators ask for."""

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html", headers=_PAGE_HEADERS)

    @app.get("/page/{name}", include_in_schema=False)
    async def part_of_page(name: str) -> FileResponse:
        if name not in _PAGE_PARTS:
            raise Problem(404, f"there is no page part '{name[:40]}'.")
        return FileResponse(_PAGE_PARTS[name])

    @app.get("/healthz", summary="Whether the process answers.")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether images are taken.")
    async def ready() -> JSONResponse:
        state = {"ready": server.is_ready, "fault": server.slot.fault}
        return JSONResponse(state, 200 if server.is_ready else 503)

    @app.get("/metrics", summary="Counters, as Prometheus reads them.")
    async def metrics() -> Response:
        return Response(server.counters.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models", summary="The model that is served.")
    async def models() -> dict[str, Any]:
        return {"models": [server.slot.current.describe()], "fault": server.slot.fault}

    @app.post("/v1/reload", summary="Take the new champion now.")
    async def reload() -> dict[str, Any]:
        is_new = await server.reload()
        return {
            "replaced": is_new,
            "version": server.slot.current.version,
            "fault": server.slot.fault,
        }


def _add_segment(app: FastAPI, server: Server) -> None:
    @app.post(
        "/v1/segment",
        summary="Segment one image.",
        description="The form of the answer follows `formats` (several give a ZIP), else `Accept`.",
        openapi_extra=described(IMAGE_OPTIONS, as_json=True),
    )
    async def segment(request: Request) -> Response:
        deadline, served = server.deadline(), server.slot.current
        try:
            values = parse_options(request.query_params.multi_items(), IMAGE_OPTIONS)
            names = values.pop("formats", ())  # of answers, which are more than `predict` writes
            formats = chosen(",".join(names), request.headers.get("accept", ""))
            options = server.options(served, values)
            with server.counters.stage("read"):
                body = await read_body(request, server.settings.max_body, deadline)
            content_type = request.headers.get("content-type", "")
            upload = await asyncio.to_thread(upload_of, body, content_type)

            def encode(image: SegmentedImage) -> Answer:
                return answer(image, formats, upload.name)

            work = server.segment(upload.data, served, options, encode)
            encoded = await server.gate.while_connected(request, deadline, work)
        except (ConfigError, DataError) as error:
            raise Problem(400 if isinstance(error, ConfigError) else 422, str(error)) from None
        return Response(
            encoded.body, headers=model_header(served.version), media_type=encoded.media_type
        )
