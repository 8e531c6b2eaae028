"""Run the pages until Ctrl-C or SIGTERM."""

from segtune.runtime.log import Log
from segtune.serving.listening import listen, run
from segtune.serving.ui.app import create_app
from segtune.serving.ui.settings import UiSettings
from segtune.tracking.store import Store

_PATIENCE = 1  # seconds: pages that follow a sweep never end by themselves


def show(store: Store, settings: UiSettings, say: Log) -> None:
    """Serve the pages of a store until the process is asked to end.

    Raises:
        ConfigError: the address is taken, or no address of this machine.
    """
    listening, url = listen(settings.host, settings.port)
    say(f"{store.root}: {url} (Ctrl-C ends it)")
    run(create_app(store, settings.token), listening, _PATIENCE)
