"""Show a store as web pages."""

from typing import TYPE_CHECKING

from segtune.config.defaults import EXPERIMENT, ROOT
from segtune.runtime.log import Log, to_stderr

if TYPE_CHECKING:
    from segtune.serving.ui.settings import UiSettings


def ui(
    settings: "UiSettings | None" = None,
    *,
    root: str = ROOT,
    uri: str | None = None,
    experiment: str = EXPERIMENT,
    say: Log = to_stderr,
) -> None:
    """Serve the pages of a store until Ctrl-C or SIGTERM; nothing in the store is changed.

    Args:
        settings: address and token; by default http://127.0.0.1:8100.
        uri: MLflow server, in place of the store in `root`.
        experiment: MLflow experiment of the runs.

    Raises:
        ConfigError: there is no store, or the address cannot be used.
        StorageError: the store cannot be read.
    """
    from segtune.config.schema import TrackingConfig
    from segtune.serving.ui.server import show
    from segtune.serving.ui.settings import UiSettings
    from segtune.tracking.store import open_for_reading

    store = open_for_reading(TrackingConfig(root=root, uri=uri, experiment=experiment))
    show(store, settings or UiSettings(), say)
