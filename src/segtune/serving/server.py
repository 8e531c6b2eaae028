"""Run the application until Ctrl-C or SIGTERM; requests in progress are answered first."""

import socket

import uvicorn

from segtune.errors import ConfigError
from segtune.runtime.log import Log
from segtune.runtime.signals import StopRequest
from segtune.serving.app import create_app
from segtune.serving.served import ModelSlot
from segtune.serving.settings import ServerSettings

_BACKLOG = 2048  # connections that wait to be taken
_HEADER_BYTES = 32_768
_IDLE_SECONDS = 20  # until a connection without a request is closed


def serve(slot: ModelSlot, settings: ServerSettings, say: Log) -> None:
    """Listen until the process is asked to end.

    Raises:
        ConfigError: the address is taken, or no address of this machine.
    """
    listening = _listen(settings)
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        create_app(slot, settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=int(settings.deadline) + 1,
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    say(f"{slot.current.version}: http://{host}:{port} (Ctrl-C ends it)")
    with StopRequest().listening():  # hears the signal that uvicorn raises again at its end
        uvicorn.Server(config).run(sockets=[listening])


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns off Nagle's delay of 40 ms on sockets that name their protocol
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(_BACKLOG)  # from now on clients wait; none is refused
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"host={settings.host} port={settings.port}: {error.strerror or error}. "
            "Choose another port=N; 0 takes a free one."
        ) from None
    listening.set_inheritable(True)
    return listening
