"""What every request passes: who may ask, how many at a time, how long, and for how long."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segtune.serving.access import is_from_elsewhere, is_token
from segtune.serving.counters import Counters
from segtune.serving.problems import Problem
from segtune.serving.settings import ServerSettings

T = TypeVar("T")

_OPEN_PATHS = ("/", "/healthz", "/readyz")  # and the parts of the page
_DECODED = 6  # images in memory at a time: some are computed, others decoded or encoded


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
        decoded: to hold while an image is in memory.
    """

    def __init__(self, settings: ServerSettings, counters: Counters) -> None:
        self.settings, self.counters = settings, counters
        self.decoded = asyncio.Semaphore(_DECODED)
        self._in_progress = 0

    async def admit(self, proceed: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it: 401, 403, or 429 where too many are in progress."""
        request, status = Request(scope, receive), 500

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        refusal = self._refusal(request)
        is_costly = request.method == "POST"
        if refusal is None and is_costly and self._in_progress >= self.settings.queue:
            await self._discard_body(request)
            message = f"{self._in_progress} requests are in progress; come again."
            refusal = JSONResponse({"error": message}, 429, {"Retry-After": "1"})
        try:
            if refusal is not None:
                await refusal(scope, receive, send_counted)
            else:
                with self._counted() if is_costly else nullcontext():
                    await proceed(scope, receive, send_counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.counters.requests.labels(route, status).inc()

    def _refusal(self, request: Request) -> Response | None:
        settings, headers = self.settings, request.headers
        if settings.token:
            _, _, sent = headers.get("authorization", "").partition(" ")
            path = request.url.path
            is_public = path in _OPEN_PATHS or path.startswith("/page/")
            is_open = request.method == "GET" and is_public
            if not is_open and not is_token(sent, settings.token):
                message = "send the server's token: Authorization: Bearer TOKEN."
                return JSONResponse({"error": message}, 401, {"WWW-Authenticate": "Bearer"})
            return None
        if is_from_elsewhere(headers):
            message = "requests of other hosts' pages are refused; open the server by its address."
            return JSONResponse({"error": message}, 403)
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

    async def _discard_body(self, request: Request) -> None:
        """Read what the client still sends, so that it reads the answer."""
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.deadline):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self.settings.max_body:
                        return

    async def while_connected(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Await work until the deadline, or until the client goes.

        Raises:
            Problem: the deadline passed (504), or nobody waits any more (499).
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait(
                {task, gone},
                timeout=self.settings.deadline,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if task.done():
                return task.result()
            if gone.done():
                raise Problem(499, "the client is gone.")
            raise Problem(504, f"no answer within {self.settings.deadline:g} s.", 5)
        finally:
            gone.cancel()
            task.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the client closes its connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
