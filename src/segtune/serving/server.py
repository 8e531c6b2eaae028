"""Run the application until Ctrl-C or SIGTERM; requests in progress are answered first."""

from segtune.runtime.log import Log
from segtune.serving.app import create_app
from segtune.serving.listening import listen, run
from segtune.serving.served import ModelSlot
from segtune.serving.settings import ServerSettings


def serve(slot: ModelSlot, settings: ServerSettings, say: Log) -> None:
    """Listen until the process is asked to end.

    Raises:
        ConfigError: the address is taken, or no address of this machine.
    """
    listening, url = listen(settings.host, settings.port)
    say(f"{slot.current.version}: {url} (Ctrl-C ends it)")
    run(create_app(slot, settings), listening, int(settings.deadline) + 1)
