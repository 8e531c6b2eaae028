"""Serve a segmenter or workflow over HTTP."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from segtune.api.experiments import open_root
from segtune.config.defaults import EXPERIMENT, ROOT
from segtune.errors import ConfigError, SegtuneError
from segtune.plugins.loading import load_plugins
from segtune.runtime.log import Log, to_stderr

if TYPE_CHECKING:
    from segtune.serving.served import ServedModel
    from segtune.serving.settings import ServerSettings
    from segtune.tracking.registry import Located
    from segtune.tracking.store import Store


def serve(  # 9 parameters: keyword arguments of the public API
    model: str,
    settings: "ServerSettings | None" = None,
    *,
    runtime: str = "auto",
    runtime_options: Mapping[str, Any] = MappingProxyType({}),
    plugins: Sequence[str] = (),
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
        runtime: the engine; `auto` takes the fastest one on this machine.
        runtime_options: of the engine.
        plugins: files or modules that register the model's parts.
        uri: MLflow server, in place of the store in `root`.
        experiment: MLflow experiment in which the beginning of a run's id is looked up.

    Raises:
        ConfigError: no such model, a labeler, or an address that cannot be used.
    """
    from segtune.models.folder import is_segmenter
    from segtune.serving.served import ModelSlot
    from segtune.serving.server import serve as listen
    from segtune.serving.settings import ServerSettings

    load_plugins(plugins)
    settings = settings or ServerSettings()
    store = None if is_segmenter(Path(model)) else open_root(root, uri, experiment)

    def locate() -> tuple[str, str | None]:
        located = _located(model, store)
        return located.pinned, located.manifest_hash

    def opened() -> "ServedModel":
        return _opened(model, runtime, store, runtime_options)

    listen(ModelSlot(opened, locate, say), settings, say)


def _located(model: str, store: "Store | None") -> "Located":
    """The version to which a name leads now."""
    from segtune.tracking.registry import Located, locate

    located = Located(Path(model)) if store is None else locate(model, store)
    return replace(located, pinned=located.pinned or str(located.folder))


def _quality(store: "Store | None", located: "Located") -> dict[str, Any]:
    """Split, mIoU and its 95 % interval of a run, on test or else val; empty without evidence."""
    from segtune.tracking.evidence import load_evidence
    from segtune.tracking.runs import get_run
    from segtune.tracking.versions import registered_run

    run = None
    if store and located.version:
        run = registered_run(store, located.version)
    elif store and located.run_id:
        run = get_run(store, located.run_id)
    if store is None or run is None:
        return {}
    for split in ("test", "val"):
        with suppress(SegtuneError):  # the model is served without its figures
            evidence = load_evidence(store, run, split)
            interval = evidence.interval if evidence else None
            if interval:
                figures = {"miou": interval.value, "low": interval.low, "high": interval.high}
                return {"split": split, **figures}
    return {}


def _opened(
    model: str,
    runtime: str,
    store: "Store | None",
    options: Mapping[str, Any] = MappingProxyType({}),
) -> "ServedModel":
    """Open the model to which a name leads now, and segment one image, which wakes the engine."""
    from segtune.inference.labeler import RegionLabeler
    from segtune.inference.loading import open_model
    from segtune.inference.workflow.workflow import Workflow
    from segtune.serving.served import ServedModel

    located = _located(model, store)
    opened = open_model(located.folder, None, located.manifest_hash)
    if isinstance(opened, RegionLabeler):
        raise ConfigError(f"model={model} is a labeler, which finds no regions itself.")
    opened = opened.using(runtime, options=options)
    workflow = opened if isinstance(opened, Workflow) else None
    segmenter = opened.segmenter if isinstance(opened, Workflow) else opened
    height, width = segmenter.image_size[-1], segmenter.image_size[0]
    segmenter.segment(np.zeros((height, width, 3), np.uint8))
    return ServedModel(
        model,
        located.pinned,
        segmenter,
        workflow,
        located.manifest_hash,
        _quality(store, located),
        runtime,
        options,
    )
