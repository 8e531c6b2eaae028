"""The time in which a request must be answered."""

import asyncio
from typing import NamedTuple


class Deadline(NamedTuple):
    """The end of a request's time.

    Attributes:
        seconds: the whole time.
        ends_at: its end, on the clock of the event loop.
    """

    seconds: float
    ends_at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """The deadline of a request that begins now."""
        return cls(seconds, asyncio.get_running_loop().time() + seconds)
