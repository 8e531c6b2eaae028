"""Query and body of a route in `/openapi.json`; the routes read them themselves."""

from collections.abc import Iterable
from typing import Any

_FILE = {"type": "string", "format": "binary"}
_NUMBERS = {"min_area": "integer", "tile": "integer", "overlap": "number", "sample_ms": "number"}


def described(options: Iterable[str], as_json: bool = False) -> dict[str, Any]:
    """Describe a route that takes a file.

    Args:
        options: names of the query.
        as_json: the file may also come in a form, or as base64 in JSON.
    """
    content: dict[str, Any] = {"application/octet-stream": {"schema": _FILE}}
    if as_json:
        form = {"type": "object", "properties": {"file": _FILE}}
        encoded = {"type": "object", "properties": {"image": {"type": "string"}}}
        content |= {
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": encoded},
        }
    parameters = [
        {"name": name, "in": "query", "schema": {"type": _NUMBERS.get(name, "string")}}
        for name in options
    ]
    return {"parameters": parameters, "requestBody": {"required": True, "content": content}}
