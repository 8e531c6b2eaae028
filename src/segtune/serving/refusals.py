"""The answer to a request that is refused, in the shape of the API that was asked."""

from fastapi.responses import JSONResponse

from segtune.serving import hosted
from segtune.serving.problems import Problem

_HOSTED_PREFIX = "/v2/"


def refusal_of(problem: Problem, path: str) -> JSONResponse:
    """Return the response for a problem.

    Args:
        path: of the request; below `/v2/` it gets the hosted segmenter's status.
    """
    headers = {}
    if problem.retry_after:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if path.startswith(_HOSTED_PREFIX):
        return JSONResponse(hosted.refusal(problem), problem.status, headers)
    return JSONResponse({"error": str(problem)}, problem.status, headers)
