"""Listen at an address, and run an application there until Ctrl-C or SIGTERM."""

import socket
from typing import Any

import uvicorn

from segtune.errors import ConfigError
from segtune.runtime.signals import StopRequest

_BACKLOG = 2048  # connections that wait to be taken
_HEADER_BYTES = 32_768
_IDLE_SECONDS = 20  # until a connection without a request is closed


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """Return a listening socket and its URL; port 0 takes a free one.

    Raises:
        ConfigError: the address is taken, or no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's delay of 40 ms on sockets that name their protocol
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)  # from now on clients wait; none is refused
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"host={host} port={port}: {error.strerror or error}. "
            "Choose another port=N; 0 takes a free one."
        ) from None
    listening.set_inheritable(True)
    name = f"[{host}]" if ":" in host else host
    return listening, f"http://{name}:{listening.getsockname()[1]}"


def run(app: Any, listening: socket.socket, patience: int) -> None:
    """Answer requests until the process is asked to end.

    Args:
        patience: seconds for which requests in progress are still answered.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=patience,
    )
    with StopRequest().listening():  # hears the signal that uvicorn raises again at its end
        uvicorn.Server(config).run(sockets=[listening])
