"""The entry of every request: who may look, and what a page may load."""

import hashlib
import hmac
from urllib.parse import parse_qs

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segtune.serving.access import is_from_elsewhere, is_token
from segtune.serving.ui.pages import render

_COOKIE = "segtune_ui"
_MOST_FORM_BYTES = 4096
_OPEN_PATHS = ("/healthz",)
_HEADERS = {
    # the figures set styles; scripts come from this server alone
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class Entry:
    """Leads every request through the check, and adds the headers of a page.

    Args:
        token: that a client must know; None on loopback.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; other events pass."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope, receive)
        answer = await self._answer(request)
        await (answer or self.app)(scope, receive, send_with_headers)

    async def _answer(self, request: Request) -> Response | None:
        """Return the answer to a request that may not pass; None if it may."""
        if not self.token:
            if is_from_elsewhere(request.headers):
                text = "requests of other hosts' pages are refused; open the server by its address."
                return Response(text, 403, media_type="text/plain")
            return None
        if request.method == "POST" and request.url.path == "/enter":
            return await self._entered(request)
        if request.url.path in _OPEN_PATHS or self._knows_token(request):
            return None
        page = render("enter.html.j2", is_wrong=False)
        return HTMLResponse(page, 401, {"WWW-Authenticate": "Bearer"})

    def _knows_token(self, request: Request) -> bool:
        assert self.token is not None
        _, _, sent = request.headers.get("authorization", "").partition(" ")
        cookie = request.cookies.get(_COOKIE, "")
        return is_token(sent, self.token) or is_token(cookie, _pass(self.token))

    async def _entered(self, request: Request) -> Response:
        """Return the first page, with a cookie, to a person who typed the token."""
        assert self.token is not None
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_FORM_BYTES:
                return Response("the form is too long", 413, media_type="text/plain")
        sent = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        if not is_token(sent.strip(), self.token):
            return HTMLResponse(render("enter.html.j2", is_wrong=True), 401)
        response = RedirectResponse("/", 303)
        response.set_cookie(_COOKIE, _pass(self.token), httponly=True, samesite="strict")
        return response


def _pass(token: str) -> str:
    """Return the cookie of a person who typed the token; it does not reveal the token."""
    return hmac.new(token.encode(), b"segtune ui", hashlib.sha256).hexdigest()
