"""The routes of jobs."""

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from segtune.errors import ConfigError
from segtune.serving.bodies import save_body, stated_size
from segtune.serving.deadline import Deadline
from segtune.serving.description import described
from segtune.serving.predictor import JOB_OPTIONS, parse_options
from segtune.serving.problems import Problem
from segtune.serving.shared import Server, model_header

_BODIES = 10  # a job's upload may be so many times as large, and as slow, as a request's body


def add_jobs(app: FastAPI, server: Server) -> None:
    """Add the routes."""

    @app.post(
        "/v1/jobs",
        status_code=202,
        summary="Send a video or a large image.",
        openapi_extra=described(("name", *JOB_OPTIONS)),
    )
    async def create(request: Request) -> JSONResponse:
        settings = server.settings
        query = request.query_params.multi_items()
        name, options = _name_of(query), [item for item in query if item[0] != "name"]
        try:
            values = parse_options(options, JOB_OPTIONS)
            server.options(server.slot.current, values)
        except ConfigError as error:
            raise Problem(400, str(error)) from None
        limit = _BODIES * settings.max_body
        deadline = Deadline.after(_BODIES * settings.deadline)
        size = await stated_size(request, limit, deadline)
        job, path = await asyncio.to_thread(server.jobs.reserve, name, values, size)
        try:
            await save_body(request, path, limit, deadline)
            server.jobs.start(job)
        except BaseException:  # refused, a full disk, or the client is gone
            server.jobs.discard(job.id)
            raise
        return JSONResponse(asdict(job), 202, {"Location": f"/v1/jobs/{job.id}"})

    @app.get("/v1/jobs", summary="All jobs, the newest first.")
    def list_jobs() -> dict[str, Any]:
        return {"jobs": [asdict(job) for job in server.jobs.all()]}

    @app.get("/v1/jobs/{job_id}", summary="State and progress of a job; its files when it is done.")
    def show(job_id: str) -> dict[str, Any]:
        job = server.jobs.get(job_id)
        files = server.jobs.files(job_id) if job.state == "done" else []
        return {**asdict(job), "files": files}

    @app.get("/v1/jobs/{job_id}/files/{name:path}", summary="One file of a finished job.")
    def file(job_id: str, name: str) -> FileResponse:
        path = server.jobs.file(job_id, name)
        return FileResponse(path, headers=model_header(server.jobs.get(job_id).model))

    @app.delete("/v1/jobs/{job_id}", status_code=204, summary="Stop a job and remove its files.")
    def delete(job_id: str) -> Response:
        server.jobs.delete(job_id)
        return Response(status_code=204)


def _name_of(query: list[tuple[str, str]]) -> str:
    """The client's name of the upload, without folders."""
    name = dict(query).get("name", "upload.mp4")
    return name.replace("\\", "/").rpartition("/")[2][:200]
