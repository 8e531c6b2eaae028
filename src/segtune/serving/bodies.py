"""Read what a client sends: an image as a raw body, as multipart, or as base64 in JSON."""

import asyncio
import base64
import binascii
import json
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect, Request

from segtune.serving.deadline import Deadline
from segtune.serving.problems import Problem

_DISCARDED = 10  # times the limit: so much of a body that is too large is read and dropped
_MOST_PARTS = 100  # of a form
_LONGEST_HEAD = 8192  # bytes of the headers of a part


class Upload(NamedTuple):
    """A file that a client sent; its name is a word for answers, and never a path."""

    data: bytes
    name: str


async def read_body(request: Request, limit: int, deadline: Deadline) -> bytes:
    """Read a request's body.

    Raises:
        Problem: it is larger than `limit` bytes (413), arrives after the deadline (408), or the
            client disconnects (499).
    """
    await stated_size(request, limit, deadline)
    chunks: list[bytes] = []
    await _receive(request, limit, deadline, chunks.append)
    return b"".join(chunks)


async def save_body(request: Request, path: Path, limit: int, deadline: Deadline) -> None:
    """Write a request's body into an existing file as it arrives.

    Raises:
        Problem: see `read_body`.
    """
    with path.open("r+b") as file:
        await _receive(request, limit, deadline, file.write)
        file.truncate()


async def stated_size(request: Request, limit: int, deadline: Deadline) -> int:
    """The bytes of a body that its header states; `limit` where it states none.

    Raises:
        Problem: they are more than `limit` (413).
    """
    text = request.headers.get("content-length", "")
    size = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else limit
    if size > limit:
        await discard_body(request, limit, deadline)
        raise _too_large(limit)
    return size


async def discard_body(request: Request, limit: int, deadline: Deadline) -> None:
    """Read what a client still sends, so that it reads the answer; far above `limit` it ends.

    A client that waits for a word before it sends (`Expect`) gets the answer at once.
    """
    if request.headers.get("expect"):
        return
    size = 0
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout_at(deadline.ends_at):
            async for chunk in request.stream():
                size += len(chunk)
                if size > _DISCARDED * limit:
                    return


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is larger than {limit / 1e6:g} MB.")


async def _receive(
    request: Request, limit: int, deadline: Deadline, take: Callable[[bytes], object]
) -> None:
    size = 0
    try:
        async with asyncio.timeout_at(deadline.ends_at):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limit:
                    take(chunk)
                elif size > _DISCARDED * limit:
                    break
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {deadline.seconds:g} s.") from None
    except ClientDisconnect:
        raise Problem(499, "the client is gone.") from None
    if size > limit:
        raise _too_large(limit)


def upload_of(body: bytes, content_type: str) -> Upload:
    """The image in a body.

    Args:
        content_type: the header: `multipart/form-data` with a file; `application/json` with
            `{"image": BASE64}`; any other body is the image itself.

    Raises:
        Problem: no image is in it (400).
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _of_multipart(body, content_type)
    if kind == "application/json":
        return _of_json(body)
    if not body:
        raise Problem(400, "the body is empty; send the bytes of an image.")
    return Upload(body, "image")


def _of_multipart(body: bytes, content_type: str) -> Upload:
    """The first file of a form; parts within parts are not looked at."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if not boundary:
        raise Problem(400, "the form names no boundary in its Content-Type.")
    parts = body.split(b"--" + boundary.encode("latin-1", "replace"), _MOST_PARTS + 1)
    if len(parts) > _MOST_PARTS + 1:
        raise Problem(400, f"the form has more than {_MOST_PARTS} fields.")
    for part in parts[1:]:
        head, _, data = part.partition(b"\r\n\r\n")
        data = data.removesuffix(b"\r\n")
        name = _filename(head) if data and len(head) <= _LONGEST_HEAD else None
        if name is not None:
            return Upload(data, _safe_name(name))
    raise Problem(400, "the form holds no file; send one field with the bytes of an image.")


def _filename(head: bytes) -> str | None:
    """The name of a part's file; None if it has none, or one that cannot be read."""
    try:
        return BytesHeaderParser().parsebytes(head.lstrip(b"\r\n")).get_filename()
    except (ValueError, LookupError):  # an encoding that does not exist, or other bytes
        return None


def _of_json(body: bytes) -> Upload:
    content = parse_json(body)
    text = content.get("image")
    if not isinstance(text, str):
        raise Problem(400, 'JSON must be {"image": BASE64}; URLs and paths are never read.')
    return Upload(from_base64(text, "image"), _safe_name(str(content.get("name") or "image")))


def parse_json(body: bytes) -> dict[str, Any]:
    """The object in a body.

    Raises:
        Problem: it is no JSON object (400).
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"the body is no JSON ({error}).") from None
    if b"\\ud" in body.lower() and not _is_text(content):
        raise Problem(400, "the body holds half of a surrogate pair, which is no text.")
    if not isinstance(content, dict):
        raise Problem(400, f"the body is a {type(content).__name__}; a JSON object is expected.")
    return content


def _is_text(content: Any) -> bool:
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def from_base64(text: str, where: str) -> bytes:
    """The bytes of a base64 text, with or without the head of a data URL.

    Raises:
        Problem: it is no base64 (400).
    """
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(400, f"{where} is no base64 ({error}).") from None


def _safe_name(name: str) -> str:
    text = name.encode("utf-8", "replace").decode()
    return text.replace("\\", "/").rpartition("/")[2][:200] or "image"
