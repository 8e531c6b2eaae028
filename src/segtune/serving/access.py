"""Access to a server: from this machine, or with the server's token."""

import secrets
from collections.abc import Mapping
from ipaddress import ip_address

from segtune.errors import ConfigError

TOKEN_VARIABLE = "SEGTUNE_TOKEN"


def check_place(host: str, port: int, token: str | None) -> None:
    """Refuse a port that is none, and an address beyond loopback without a token.

    Raises:
        ConfigError: one of them.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"port={port}: 0..65535 is allowed.")
    if not token and not is_loopback(host):
        raise ConfigError(
            f"host={host} is reached from other machines: set a token that clients must "
            f"send, {TOKEN_VARIABLE}=…, or serve on host=127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_token(sent: str, token: str) -> bool:
    """Whether a client sent the token; takes equally long for every wrong one."""
    return secrets.compare_digest(sent.encode(), token.encode())


def is_from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a page of another host sends a request through the browser of the person here.

    A server on loopback has no token, so it refuses such requests. A link to it may be followed.
    """
    host = headers.get("host", "").lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if not is_loopback(name.strip("[]")):
        return True
    origin = headers.get("origin", "")
    if origin and origin.partition("://")[2].lower() != host:
        return True
    is_foreign = headers.get("sec-fetch-site", "") in ("cross-site", "same-site")
    is_link = headers.get("sec-fetch-dest", "") == "document"
    return is_foreign and not is_link
