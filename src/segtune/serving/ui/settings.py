"""The address of `segtune ui`."""

from dataclasses import dataclass

from segtune.serving.access import check_place


@dataclass(frozen=True)
class UiSettings:
    """Where the pages are served.

    Attributes:
        host: address; anything but loopback needs a token.
        port: 0 takes a free one.
        token: asked for on the first page, or sent as `Authorization: Bearer TOKEN`; None asks for
            none.

    Raises:
        ConfigError: no such port, or an address beyond loopback without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8100
    token: str | None = None

    def __post_init__(self) -> None:
        """Check the address and the token."""
        check_place(self.host, self.port, self.token)
