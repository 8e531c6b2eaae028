"""The HTTP application: its routes, and what every request passes through."""

import asyncio
import string
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse

import segtune
from segtune.data.reading.images import read_image
from segtune.errors import ConfigError, DataError
from segtune.inference.regions.writers import to_clarifai
from segtune.pages.rendering import FOLDER as SHARED_PAGE
from segtune.serving import hosted
from segtune.serving.answers import Answer, answer, chosen
from segtune.serving.bodies import parse_json, read_body, save_body, upload_of
from segtune.serving.computing import ComputeThreads, SegmentedImage
from segtune.serving.counters import Counters
from segtune.serving.gate import Gate, GateMiddleware
from segtune.serving.jobs import Job, JobStore
from segtune.serving.predictor import SlotPredictor, options_for, parse_options
from segtune.serving.problems import Problem
from segtune.serving.served import ModelSlot, ServedModel
from segtune.serving.settings import ServerSettings

T = TypeVar("T")

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
_HOSTED_PATHS = (
    "/v2/models/{model_id}/outputs",
    "/v2/models/{model_id}/versions/{version_id}/outputs",
    "/v2/users/{user_id}/apps/{app_id}/models/{model_id}/outputs",
    "/v2/users/{user_id}/apps/{app_id}/models/{model_id}/versions/{version_id}/outputs",
)
_BINARY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {"type": "object", "properties": {"image": {"type": "string"}}}
            },
        },
    }
}
_JOB_BODIES = 10  # a job's upload may be so many times as large, and as slow, as a request's body


class Server:
    """The parts that the routes share: model, threads, jobs, limits and counters."""

    def __init__(self, slot: ModelSlot, settings: ServerSettings) -> None:
        self.slot, self.settings = slot, settings
        self.counters = Counters()
        self.predictor = SlotPredictor(slot, settings.max_pixels)
        self.gate = Gate(settings, self.counters)
        self.is_ready = False

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Start the threads and the jobs, and end them after the last request."""
        settings = self.settings
        self.threads = ComputeThreads(self.slot.current.segmenter)
        self.jobs = JobStore(settings.jobs, settings.jobs_gb * 1e9, self.predictor)
        polling = asyncio.create_task(self._poll()) if settings.poll else None
        self.is_ready = True
        try:
            yield
        finally:
            self.is_ready = False
            if polling:
                polling.cancel()
            await asyncio.to_thread(self.jobs.close)
            await asyncio.to_thread(self.threads.close)

    async def reload(self) -> bool:
        """Take a new champion; return whether there was one."""
        is_new = await asyncio.to_thread(self.slot.refresh)
        if is_new:
            self.counters.replaced.inc()
        return is_new

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self.settings.poll)
            await self.reload()

    async def segment(
        self,
        request: Request,
        data: bytes,
        options: dict[str, Any],
        encode: Callable[[SegmentedImage], T],
    ) -> tuple[ServedModel, T]:
        """Decode, segment and encode an image, within the deadline and while the client waits.

        Returns:
            the version that answered, and what `encode` returned.

        Raises:
            Problem: see `Gate.while_connected`.
            DataError: no image.
        """
        served, counters = self.slot.current, self.counters
        settings = options_for(served, options, self.settings.max_pixels)

        def decode() -> Any:
            with counters.stage("decode"):
                limit, reading = settings.max_pixels, served.segmenter.reading
                return read_image(data, limit, name="the image", reading=reading)

        def encoded(image: SegmentedImage) -> T:
            with counters.stage("encode"):
                return encode(image)

        async def work() -> T:
            async with self.gate.decoded:
                pixels = await self.threads.run(decode)
                with counters.stage("segment"):
                    image = await self.threads.segment(served, pixels, settings)
                return await self.threads.run(encoded, image)

        return served, await self.gate.while_connected(request, work())


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
    app.exception_handler(Problem)(_on_problem)
    _add_operation(app, server)
    _add_segment(app, server)
    _add_hosted(app, server)
    _add_jobs(app, server)
    return app


async def _on_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
    return JSONResponse({"error": str(error)}, error.status, headers)


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
        openapi_extra=_BINARY,
    )
    async def segment(request: Request) -> Response:
        query = dict(request.query_params)
        try:
            formats = chosen(query.pop("formats", ""), request.headers.get("accept", ""))
            options = parse_options(query)
            with server.counters.stage("read"):
                body = await read_body(request, server.settings.max_body, server.settings.deadline)
            content_type = request.headers.get("content-type", "")
            upload = await asyncio.to_thread(upload_of, body, content_type)

            def encode(image: SegmentedImage) -> Answer:
                return answer(image, formats, upload.name)

            served, encoded = await server.segment(request, upload.data, options, encode)
        except (ConfigError, DataError) as error:
            raise Problem(400 if isinstance(error, ConfigError) else 422, str(error)) from None
        # a header holds ASCII alone
        headers = {"X-Segtune-Model": quote(served.version, safe=string.punctuation + " ")}
        return Response(encoded.body, headers=headers, media_type=encoded.media_type)


def _hosted_regions(image: SegmentedImage) -> dict[str, Any]:
    return {"regions": to_clarifai(image.regions)}


def _add_hosted(app: FastAPI, server: Server) -> None:
    async def frames_of(request: Request, item: hosted.HostedInput) -> dict[str, Any]:
        given_up = threading.Event()
        work = asyncio.to_thread(
            server.predictor.video_frames, item.data, item.sample_ms, given_up.is_set
        )
        try:
            return await server.gate.while_connected(request, work)
        finally:
            given_up.set()  # the thread ends after its current frame

    async def output_of(request: Request, item: hosted.HostedInput) -> dict[str, Any] | Problem:
        try:
            if item.kind == "video":
                return await frames_of(request, item)
            _, data = await server.segment(request, item.data, {}, _hosted_regions)
            return data
        except (ConfigError, DataError) as error:
            return Problem(422, str(error))

    async def outputs(request: Request, model_id: str) -> JSONResponse:
        served = server.slot.current
        try:
            body = await read_body(request, server.settings.max_body, server.settings.deadline)
            inputs = await asyncio.to_thread(lambda: hosted.inputs_of(parse_json(body)))
        except Problem as problem:
            return JSONResponse(hosted.refusal(problem), problem.status)
        data: list[dict[str, Any] | Problem] = []
        for item in inputs:
            data.append(item if isinstance(item, Problem) else await output_of(request, item))
        status, content = hosted.response(served, model_id, data)
        return JSONResponse(content, status)

    for path in _HOSTED_PATHS:
        app.post(path, summary="Segment images or videos, as the hosted segmenter does.")(outputs)


def _add_jobs(app: FastAPI, server: Server) -> None:
    @app.post("/v1/jobs", status_code=202, summary="Send a video or a large image.")
    async def create(request: Request) -> JSONResponse:
        query = dict(request.query_params)
        name = query.pop("name", "upload.mp4").replace("\\", "/").rpartition("/")[2][:200]
        try:
            options = parse_options(query)
            options_for(server.slot.current, options, server.settings.max_pixels)
        except ConfigError as error:
            raise Problem(400, str(error)) from None
        job, path = await asyncio.to_thread(server.jobs.reserve, name, options)
        try:
            limit = _JOB_BODIES * server.settings.max_body
            await save_body(request, path, limit, _JOB_BODIES * server.settings.deadline)
            server.jobs.start(job)
        except BaseException:  # refused, a full disk, or the client is gone
            server.jobs.discard(job)
            raise
        return JSONResponse(asdict(job), 202, {"Location": f"/v1/jobs/{job.id}"})

    @app.get("/v1/jobs", summary="All jobs, the newest first.")
    def list_jobs() -> dict[str, Any]:
        return {"jobs": [asdict(job) for job in server.jobs.all()]}

    @app.get("/v1/jobs/{job_id}", summary="State and progress of a job; its files when it is done.")
    def show(job_id: str) -> dict[str, Any]:
        job: Job = server.jobs.get(job_id)
        files = server.jobs.files(job_id) if job.state == "done" else []
        return {**asdict(job), "files": files}

    @app.get("/v1/jobs/{job_id}/files/{name:path}", summary="One file of a finished job.")
    def file(job_id: str, name: str) -> FileResponse:
        return FileResponse(server.jobs.file(job_id, name))

    @app.delete("/v1/jobs/{job_id}", status_code=204, summary="Stop a job and remove its files.")
    def delete(job_id: str) -> Response:
        server.jobs.delete(job_id)
        return Response(status_code=204)
