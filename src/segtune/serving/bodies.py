"""Read what a client sends: an image as a raw body, as multipart, or as base64 in JSON."""

import asyncio
import base64
import binascii
import json
from collections.abc import Callable
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from typing import Any, NamedTuple

from starlette.requests import Request

from segtune.serving.problems import Problem


class Upload(NamedTuple):
    """A file that a client sent; its name is a word for answers, and never a path."""

    data: bytes
    name: str


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """Read a request's body.

    Raises:
        Problem: it is larger than `limit` bytes (413), or takes longer than `seconds` (408).
    """
    chunks: list[bytes] = []
    await _receive(request, limit, seconds, chunks.append)
    return b"".join(chunks)


async def save_body(request: Request, path: Path, limit: int, seconds: float) -> None:
    """Write a request's body to a file as it arrives.

    Raises:
        Problem: see `read_body`.
    """
    with path.open("wb") as file:
        await _receive(request, limit, seconds, file.write)


async def _receive(
    request: Request, limit: int, seconds: float, take: Callable[[bytes], object]
) -> None:
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise Problem(413, f"the body is larger than {limit / 1e6:g} MB.")
                take(chunk)
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {seconds:g} s.") from None


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
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    for part in message_from_bytes(head + body, policy=HTTP).iter_parts():
        data = part.get_payload(decode=True)
        if part.get_filename() is not None and isinstance(data, bytes) and data:
            return Upload(data, _safe_name(str(part.get_filename())))
    raise Problem(400, "the form holds no file; send one field with the bytes of an image.")


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
    if not isinstance(content, dict):
        raise Problem(400, f"the body is a {type(content).__name__}; a JSON object is expected.")
    return content


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
    return name.replace("\\", "/").rpartition("/")[2][:200] or "image"
