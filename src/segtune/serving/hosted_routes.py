"""The routes of the hosted segmenter's API."""

import asyncio
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from segtune.errors import ConfigError, DataError
from segtune.inference.regions.writers import to_clarifai
from segtune.serving import hosted
from segtune.serving.bodies import parse_json, read_body
from segtune.serving.computing import SegmentedImage
from segtune.serving.hosted_videos import hosted_frames
from segtune.serving.problems import Problem
from segtune.serving.served import ServedModel
from segtune.serving.shared import Server, model_header

_PATHS = (
    "/v2/models/{model_id}/outputs",
    "/v2/models/{model_id}/versions/{version_id}/outputs",
    "/v2/users/{user_id}/apps/{app_id}/models/{model_id}/outputs",
    "/v2/users/{user_id}/apps/{app_id}/models/{model_id}/versions/{version_id}/outputs",
)


def add_hosted(app: FastAPI, server: Server) -> None:
    """Add the routes. One version answers all inputs of a request, within one deadline."""

    async def outputs(request: Request, model_id: str) -> JSONResponse:
        deadline, served = server.deadline(), server.slot.current
        body = await read_body(request, server.settings.max_body, deadline)
        inputs = await asyncio.to_thread(lambda: hosted.inputs_of(parse_json(body)))
        work = _data_of_all(server, served, inputs)
        data = await server.gate.while_connected(request, deadline, work)
        status, content = await asyncio.to_thread(hosted.response, served, model_id, data)
        return JSONResponse(content, status, model_header(served.version))

    for path in _PATHS:
        app.post(path, summary="Segment images or videos, as the hosted segmenter does.")(outputs)


async def _data_of_all(
    server: Server, served: ServedModel, inputs: list[hosted.HostedInput | Problem]
) -> list[dict[str, Any] | Problem]:
    """The data of each input, computed together; those that fail get their problem."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_data_of(server, served, item)) for item in inputs]
    return [task.result() for task in tasks]


async def _data_of(
    server: Server, served: ServedModel, item: hosted.HostedInput | Problem
) -> dict[str, Any] | Problem:
    if isinstance(item, Problem):
        return item
    try:
        if item.kind == "image":
            options = server.options(served, {})
            return await server.segment(item.data, served, options, _regions)
        options = server.options(served, {"sample_ms": item.sample_ms})
        async with server.gate.videos:
            frames = await hosted_frames(
                item.data, served, options, server.threads, server.gate.decoded
            )
        return {"frames": frames}
    except (ConfigError, DataError) as error:
        return Problem(422, str(error))


def _regions(image: SegmentedImage) -> dict[str, Any]:
    return {"regions": to_clarifai(image.regions)}
