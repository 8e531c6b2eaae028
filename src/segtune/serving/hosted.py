"""The request and the answer of the hosted visual segmenter, so that its clients work here.

`POST /v2/models/ID/outputs` with `{"inputs": [{"data": {"image": {"base64": …}}}]}`. Files are sent
as base64; URLs are never read. Shapes as its public documentation describes them.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from segtune.serving.bodies import from_base64
from segtune.serving.problems import Problem
from segtune.serving.served import ServedModel

OK = {"code": 10000, "description": "Ok"}
_MIXED = {"code": 10010, "description": "Mixed Success"}
_FAILED = {"code": 10020, "description": "Failure"}
_BAD_INPUT = {"code": 30104, "description": "Input has an invalid argument"}
_REFUSALS = {  # HTTP status -> the service's own code, of its public status_code.proto
    400: {"code": 11100, "description": "Bad request format"},
    401: {"code": 11008, "description": "Invalid API key"},
    403: {"code": 11007, "description": "Insufficient permissions"},
    404: {"code": 11101, "description": "Resource does not exist"},
    405: {"code": 11103, "description": "Method not allowed"},
    408: {"code": 40032, "description": "Request timeout"},
    413: {"code": 40033, "description": "Maximum message size exceeded"},
    429: {"code": 11005, "description": "Too many requests"},
    499: {"code": 40035, "description": "Request canceled"},
    504: {"code": 40032, "description": "Request timeout"},
}
MAX_INPUTS = 32


class HostedInput(NamedTuple):
    """One input of a request.

    Attributes:
        kind: `image` or `video`.
        data: the bytes of the file.
        sample_ms: of a video, one frame per so many milliseconds.
    """

    kind: str
    data: bytes
    sample_ms: float = 1000.0


def inputs_of(content: Mapping[str, Any]) -> list[HostedInput | Problem]:
    """The inputs of a request; a Problem in the place of one that cannot be read.

    Raises:
        Problem: the request has no list of inputs (400), or more than MAX_INPUTS.
    """
    rows = content.get("inputs")
    if not isinstance(rows, list) or not rows:
        raise Problem(400, 'inputs: a list of {"data": {"image": {"base64": …}}} is expected.')
    if len(rows) > MAX_INPUTS:
        raise Problem(400, f"inputs: {len(rows)} are too many; {MAX_INPUTS} are allowed.")
    sample_ms = _sample_ms(content)
    inputs: list[HostedInput | Problem] = []
    for number, row in enumerate(rows):
        try:
            inputs.append(_input_of(row, f"inputs[{number}]", sample_ms))
        except Problem as problem:
            inputs.append(problem)
    return inputs


def _input_of(row: object, where: str, sample_ms: float) -> HostedInput:
    data = row.get("data") if isinstance(row, dict) else None
    for kind in ("image", "video"):
        part = data.get(kind) if isinstance(data, dict) else None
        if not isinstance(part, dict):
            continue
        text = part.get("base64")
        if isinstance(text, str):
            return HostedInput(kind, from_base64(text, f"{where}.data.{kind}.base64"), sample_ms)
        raise Problem(400, f"{where}.data.{kind}: base64 is read here, never a URL.")
    raise Problem(400, f"{where}.data: an image or a video is expected.")


def _sample_ms(content: Mapping[str, Any]) -> float:
    value: Any = content
    for key in ("model", "output_info", "output_config", "sample_ms"):
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return 1000.0
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e9:
        raise Problem(400, f"output_config.sample_ms={value}: milliseconds above 0 are expected.")
    return float(value)


def response(
    served: ServedModel, model_id: str, outputs: Sequence[Mapping[str, Any] | Problem]
) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the answer for all inputs.

    Args:
        outputs: for each input its `data`, or the problem that it had.
    """
    rows = [_output(served, model_id, output) for output in outputs]
    num_failed = sum(isinstance(output, Problem) for output in outputs)
    if not num_failed:
        return 200, {"status": OK, "outputs": rows}
    if num_failed < len(rows):
        return 207, {"status": _MIXED, "outputs": rows}
    return 400, {"status": _FAILED, "outputs": rows}


def refusal(problem: Problem) -> dict[str, Any]:
    """The answer to a request that is refused as a whole."""
    status = _REFUSALS.get(problem.status, _FAILED)
    return {"status": {**status, "details": str(problem)}, "outputs": []}


def _output(
    served: ServedModel, model_id: str, output: Mapping[str, Any] | Problem
) -> dict[str, Any]:
    names = [{"id": c["name"], "name": c["name"]} for c in served.model.classes.to_json()]
    row: dict[str, Any] = {
        "id": secrets.token_hex(16),
        "status": OK,
        "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "model": {
            "id": model_id,
            "name": model_id,
            "model_version": {"id": served.version, "status": {"code": 21100}},
            "model_type_id": "visual-segmenter",
            "output_info": {"data": {"concepts": names}},
        },
        "input": {"id": secrets.token_hex(16), "data": {}},
        "data": {},
    }
    if isinstance(output, Problem):
        row["status"] = {**_BAD_INPUT, "details": str(output)}
    else:
        row["data"] = dict(output)
    return row
