"""Segmenters at work, as functions: what `predict` on the command line calls, and what Python users import.

Loading a segmenter folder needs neither Lightning nor Hydra nor MLflow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.api.experiments import compose, open_root, to_stderr
from segtune.errors import ConfigError
from segtune.runtime.log import Log

if TYPE_CHECKING:
    from segtune.inference.labeler import RegionLabeler
    from segtune.inference.prediction.job import Prediction
    from segtune.inference.segmenter import Segmenter
    from segtune.inference.workflow.workflow import Workflow
    from segtune.tracking.promotion import Promotion


def load(
    model: str | Path,
    *,
    device: str | None = None,
    runtime: str = "eager",
    root: str = "mlruns",
    uri: str | None = None,
) -> "Segmenter | RegionLabeler | Workflow":
    """A segmenter, labeler or workflow from `models:/NAME@champion`, `runs:/ID`, a run's id, or a folder.

    Args:
        runtime: what a segmenter, or a workflow's, computes with. `eager` is what its reported numbers were measured
            with, the same masks bit for bit; `auto` takes the fastest here, as `predict` does; see
            `inference.engines.ENGINES`.

    Raises:
        ConfigError: nothing of that name, or a runtime that is not known, not installed, or not for labelers.
        DataError: files that were changed or do not belong there.
    """
    opened = _open(model, device, root, uri)
    if runtime == "eager":
        return opened
    from segtune.inference.labeler import RegionLabeler

    if isinstance(opened, RegionLabeler):
        raise ConfigError(
            f"runtime={runtime}: '{model}' is a labeler, which computes in eager alone. Leave it out."
        )
    return opened.using(runtime)


def _open(
    model: str | Path, device: str | None, root: str, uri: str | None, say: Log = to_stderr
) -> "Segmenter | RegionLabeler | Workflow":
    from segtune.inference.loading import open_model
    from segtune.models.folder import is_segmenter

    if is_segmenter(Path(model)):
        return open_model(Path(model), device)
    from segtune.tracking.registry import locate

    located = locate(str(model), open_root(root, uri))
    if located.note:
        say(located.note)
    return open_model(located.folder, device, located.manifest_hash)


def workflow(
    name: str, *overrides: str, root: str = "mlruns", uri: str | None = None
) -> "Workflow":
    """The workflow of `conf/workflow/NAME.yaml`, put together: `workflow("driving").segment("photo.jpg")`.

    Args:
        overrides: `workflow.KEY=VALUE`, as `workflow.segmenter=models:/mine/3`.

    Raises:
        ConfigError: an unknown name or key, a part that is not there, or one that does not fit the segmenter.
    """
    from segtune.api.workflows import assemble, read_workflow

    config = read_workflow(name, overrides)
    return assemble(name, config, open_root(root, uri))


def promote_workflow(
    name: str,
    model: str,
    *overrides: str,
    root: str = "mlruns",
    uri: str | None = None,
    experiment: str = "segtune",
) -> "Promotion":
    """Registers a workflow, with the bytes of all its parts, as one model and makes it champion.

    No gate judges it: its segmenter and labelers were judged.

    Raises:
        ConfigError: see `workflow`; or a name that MLflow does not take.
    """
    from segtune.api.workflows import assemble, read_workflow, register_workflow

    config = read_workflow(name, overrides)
    store = open_root(root, uri, experiment)
    return register_workflow(assemble(name, config, store), model, store)


def predict(
    model: "str | Path | Workflow",
    source: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    regions: str | None = None,
    overwrite: bool = False,
    root: str = "mlruns",
    uri: str | None = None,
    say: Log = to_stderr,
    **look: Any,
) -> "Prediction":
    """Turns images and videos into regions, masks and overlays.

    Args:
        model: a segmenter or workflow: URI, run, folder, or what `workflow` gave.
        source: files, folders or globs, `-` for standard input; `NAME:SPLIT` for the images of a dataset,
            `street:clips` for its videos.
        regions: `concept` for one region per class, `components` for connected areas; None for what the workflow
            says, else `concept`.
        look: formats, min_area, tile, overlap, tta, sample_ms, smooth, max_pixels, runtime; see
            `inference.options.Options`.

    Raises:
        SegtuneError: see `segtune.errors`; files that cannot be read are named in the result instead.
    """
    from segtune.inference.labeler import RegionLabeler
    from segtune.inference.options import Options
    from segtune.inference.prediction.job import predict as predict_files
    from segtune.inference.workflow.workflow import Workflow
    from segtune.runtime.progress import ProgressReporter

    Options(**look)  # a typo is told before anything is loaded
    sources = [source] if isinstance(source, str | Path) else list(source)
    found = [_source_path(str(s), say) for s in sources]
    opened = model if isinstance(model, Workflow) else load(model, root=root, uri=uri)
    if isinstance(opened, RegionLabeler):
        raise ConfigError(
            f"model={model} is a labeler, which sees no regions by itself: use it in a workflow."
        )
    whole = opened if isinstance(opened, Workflow) else None
    segmenter = opened.segmenter if isinstance(opened, Workflow) else opened
    given = {**look, "split": regions} if regions else look
    options = whole.options(given) if whole else Options(**given)
    name = f"workflow {model.name}" if isinstance(model, Workflow) else str(model)
    with ProgressReporter(say) as pace:
        return predict_files(
            segmenter, found, Path(output), model=name, options=options, overwrite=overwrite, workflow=whole,
            say=pace.say, progress=pace,
        )  # fmt: skip


def _source_path(source: str, say: Log) -> str:
    """A dataset's split (`street:test`) as its folder; anything else as it is."""
    name, _, split = source.partition(":")
    if not split or Path(source).exists():
        return source
    from segtune.config.conf_files import members

    if name not in members("dataset"):
        return source
    from segtune.data.sources import open_source

    opened = open_source(compose(f"dataset={name}").config.dataset, say)
    folder = opened.root / opened.config.images.format(split=split)
    return str(folder if folder.is_dir() else opened.root / split)
