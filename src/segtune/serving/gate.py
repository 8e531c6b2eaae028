"""Admission of requests: token, number in progress, deadline, and clients that disconnect."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segtune.serving.access import is_from_elsewhere, is_token
from segtune.serving.bodies import discard_body
from segtune.serving.counters import Counters
from segtune.serving.deadline import Deadline
from segtune.serving.problems import Problem
from segtune.serving.refusals import refusal_of
from segtune.serving.settings import ServerSettings

T = TypeVar("T")

_OPEN_PATHS = ("/", "/healthz", "/readyz")  # and the parts of the page
_DECODED = 6  # images in memory at a time: some are computed, others decoded or encoded
_VIDEOS = 2  # hosted videos that are read at a time; a decoder keeps many frames


class GateMiddleware:
    """Leads every request of an application through a gate."""

    def __init__(self, app: ASGIApp, gate: "Gate") -> None:
        self.app, self.gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; other events pass."""
        if scope["type"] == "http":
            await self.gate.admit(self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)


class Gate:
    """Admits requests, and gives up those that nobody waits for.

    Attributes:
        decoded: to hold while an image or a frame is in memory.
        videos: to hold while a hosted video is open.
    """

    def __init__(self, settings: ServerSettings, counters: Counters) -> None:
        self.settings, self.counters = settings, counters
        self.decoded, self.videos = asyncio.Semaphore(_DECODED), asyncio.Semaphore(_VIDEOS)
        self._in_progress = 0

    async def admit(self, proceed: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it: 401, 403, or 429 where too many are in progress."""
        request, status = Request(scope, receive), 500

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        problem = self._refusal(request)
        is_costly = request.method == "POST"
        if problem is None and is_costly and self._in_progress >= self.settings.queue:
            deadline = Deadline.after(self.settings.deadline)
            await discard_body(request, self.settings.max_body, deadline)
            message = f"{self._in_progress} requests are in progress; come again."
            problem = Problem(429, message, 1)
        try:
            if problem is not None:
                await refusal_of(problem, request.url.path)(scope, receive, send_counted)
            else:
                with self._counted() if is_costly else nullcontext():
                    await proceed(scope, receive, send_counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.counters.requests.labels(route, status).inc()

    def _refusal(self, request: Request) -> Problem | None:
        settings, headers = self.settings, request.headers
        if settings.token:
            _, _, sent = headers.get("authorization", "").partition(" ")
            path = request.url.path
            is_public = path in _OPEN_PATHS or path.startswith("/page/")
            is_open = request.method == "GET" and is_public
            if not is_open and not is_token(sent, settings.token):
                return Problem(401, "send the server's token: Authorization: Bearer TOKEN.")
            return None
        if is_from_elsewhere(headers):
            return Problem(
                403, "requests of other hosts' pages are refused; open the server by its address."
            )
        return None

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._in_progress += 1
        self.counters.in_progress.set(self._in_progress)
        try:
            yield
        finally:
            self._in_progress -= 1
            self.counters.in_progress.set(self._in_progress)

    async def while_connected(
        self, request: Request, deadline: Deadline, work: Coroutine[Any, Any, T]
    ) -> T:
        """Await work until the deadline, or until the client disconnects.

        Raises:
            Problem: the deadline passed (504), or nobody waits any more (499).
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_disconnected(request))
        left = deadline.ends_at - asyncio.get_running_loop().time()
        try:
            await asyncio.wait({task, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if gone.done():
                raise Problem(499, "the client is gone.")
            raise Problem(504, f"no answer within {deadline.seconds:g} s.", 5)
        finally:
            gone.cancel()
            task.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the client closes its connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
