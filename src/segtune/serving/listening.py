"""Listen at an address, and run an application there until Ctrl-C or SIGTERM."""

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from segtune.errors import ConfigError
from segtune.runtime.signals import StopRequest

_BACKLOG = 2048  # connections that wait to be taken
_HEADER_BYTES = 32_768
_IDLE_SECONDS = 20  # until a connection without a request is closed


class PatientProtocol(H11Protocol):
    """HTTP that closes a connection whose request head does not arrive in time.

    uvicorn itself waits for ever, so that clients without a request could take all connections.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what has come, and wait for the rest of a head."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    def _watch(self) -> None:
        has_request = self.cycle is not None and not self.cycle.response_complete
        if has_request and self._timer:
            self._timer.cancel()
            self._timer = None
        elif not has_request and not self._timer:
            self._timer = self.loop.call_later(_IDLE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


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


def server_of(app: Any, patience: int) -> uvicorn.Server:
    """The server of an application.

    Args:
        patience: seconds for which requests in progress are still answered at the end.
    """
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=patience,
    )
    return uvicorn.Server(config)


def run(app: Any, listening: socket.socket, patience: int) -> None:
    """Answer requests until the process is asked to end; `patience` as in `server_of`."""
    with StopRequest().listening():  # hears the signal that uvicorn raises again at its end
        server_of(app, patience).run(sockets=[listening])
