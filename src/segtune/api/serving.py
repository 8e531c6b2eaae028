"""Serve a segmenter or workflow over HTTP."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segtune.api.experiments import open_root
from segtune.config.defaults import EXPERIMENT, ROOT
from segtune.errors import ConfigError
from segtune.runtime.log import Log, to_stderr

if TYPE_CHECKING:
    from segtune.serving.served import ServedModel
    from segtune.serving.settings import ServerSettings
    from segtune.tracking.store import Store


def serve(
    model: str,
    settings: "ServerSettings | None" = None,
    *,
    runtime: str = "auto",
    root: str = ROOT,
    uri: str | None = None,
    experiment: str = EXPERIMENT,
    say: Log = to_stderr,
) -> None:
    """Answer HTTP requests with a segmenter or workflow, until Ctrl-C or SIGTERM.

    Args:
        model: `models:/NAME@champion` follows the champion; also `models:/NAME/3`, `runs:/ID`, a
            run's id, or a folder.
        settings: address and limits; by default http://127.0.0.1:8000.
        runtime: the engine, a name in `inference.choices.ENGINES`.
        uri: MLflow server, in place of the store in `root`.
        experiment: MLflow experiment in which the beginning of a run's id is looked up.

    Raises:
        ConfigError: no such model, a labeler, or an address that cannot be used.
    """
    from segtune.models.folder import is_segmenter
    from segtune.serving.served import ModelSlot
    from segtune.serving.server import serve as listen
    from segtune.serving.settings import ServerSettings

    settings = settings or ServerSettings()
    store = None if is_segmenter(Path(model)) else open_root(root, uri, experiment)

    def locate() -> tuple[str, str | None]:
        version, manifest, _ = _located(model, store)
        return version, manifest

    def opened() -> "ServedModel":
        return _opened(model, runtime, store)

    listen(ModelSlot(opened, locate, say), settings, say)


def _located(model: str, store: "Store | None") -> tuple[str, str | None, Path]:
    """The version to which a name leads now, its manifest's hash, and its folder."""
    from segtune.tracking.registry import locate

    if store is None:
        return model, None, Path(model)
    located = locate(model, store)
    return located.pinned or str(located.folder), located.manifest_hash, located.folder


def _opened(model: str, runtime: str, store: "Store | None") -> "ServedModel":
    """Open the model to which a name leads now, and segment one image, which wakes the engine."""
    from segtune.inference.labeler import RegionLabeler
    from segtune.inference.loading import open_model
    from segtune.inference.workflow.workflow import Workflow
    from segtune.serving.served import ServedModel

    version, manifest, folder = _located(model, store)
    opened = open_model(folder, None, manifest)
    if isinstance(opened, RegionLabeler):
        raise ConfigError(f"model={model} is a labeler, which finds no regions itself.")
    opened = opened.using(runtime)
    workflow = opened if isinstance(opened, Workflow) else None
    segmenter = opened.segmenter if isinstance(opened, Workflow) else opened
    height, width = segmenter.image_size[-1], segmenter.image_size[0]
    segmenter.segment(np.zeros((height, width, 3), np.uint8))
    return ServedModel(model, version, segmenter, workflow, manifest)
