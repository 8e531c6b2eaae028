"""Limits and address of a server."""

import math
from dataclasses import dataclass
from pathlib import Path

from segtune.config.defaults import MAX_PIXELS
from segtune.errors import ConfigError
from segtune.serving.access import check_place


@dataclass(frozen=True)
class ServerSettings:
    """Where a server listens, and how much it takes on.

    Attributes:
        host: address; anything but loopback needs a token.
        port: 0 takes a free one.
        token: clients send it as `Authorization: Bearer TOKEN`; None asks for none.
        max_body_mb: larger request bodies are refused (413). Jobs take ten times as much.
        max_pixels: images whose header claims more are refused (422).
        queue: requests that wait or are computed at a time; more are refused (429).
        deadline: seconds from a request's head to its answer; then it is given up (504).
        poll: seconds between two looks at the registry for a new champion; 0 never looks.
        jobs: folder of the jobs; servers may share it.
        jobs_gb: size of that folder; more jobs are refused (429) until old ones are deleted.

    Raises:
        ConfigError: a number out of range, or an address beyond loopback without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    max_body_mb: float = 20.0
    max_pixels: int = MAX_PIXELS
    queue: int = 32
    deadline: float = 60.0
    poll: float = 30.0
    jobs: Path = Path("jobs")
    jobs_gb: float = 10.0

    def __post_init__(self) -> None:
        """Check the numbers and the token."""
        for name in ("max_body_mb", "max_pixels", "queue", "deadline", "jobs_gb"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name}={getattr(self, name)}: more than 0 is expected.")
        if not 0 <= self.poll < math.inf:
            raise ConfigError(f"poll={self.poll}: seconds, 0 or more, are expected.")
        check_place(self.host, self.port, self.token)

    @property
    def max_body(self) -> int:
        """Bytes of a request's body."""
        return int(self.max_body_mb * 1e6)
