"""Requests that are refused: status, one message, and when to come again."""


class Problem(Exception):
    """A request that is refused.

    Attributes:
        status: HTTP status code.
        retry_after: seconds after which the client may come again.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after
