"""Use a segmenter: load it, predict with it, put workflows together.

Loading a segmenter folder needs neither Lightning nor Hydra nor MLflow.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from segtune.api.experiments import compose, open_root
from segtune.config.defaults import EXPERIMENT, ROOT
from segtune.errors import ConfigError
from segtune.plugins.loading import load_plugins
from segtune.runtime.log import Log, to_stderr

if TYPE_CHECKING:
    from segtune.inference.labeler import RegionLabeler
    from segtune.inference.prediction.request import Prediction
    from segtune.inference.segmenter import Segmenter
    from segtune.inference.workflow.workflow import Workflow
    from segtune.tracking.promotion import Promotion


def load(
    model: str | Path,
    *,
    device: str | None = None,
    runtime: str = "eager",
    runtime_options: Mapping[str, Any] = MappingProxyType({}),
    plugins: Sequence[str] = (),
    root: str = ROOT,
    uri: str | None = None,
) -> "Segmenter | RegionLabeler | Workflow":
    """Load a segmenter, labeler or workflow.

    Args:
        model: `models:/NAME@champion`, `runs:/ID`, the id of a run, or a folder.
        device: torch device; by default a GPU if there is one.
        runtime: engine of a segmenter or of a workflow's segmenter. `eager` repeats the masks of
            the reported numbers bit for bit; `auto` takes the fastest engine on this machine, as
            `predict` does.
        runtime_options: of the engine.
        plugins: files or modules that register the model's parts.

    Raises:
        ConfigError: no such model; or a runtime that is unknown, not installed, or not for
            labelers.
        DataError: a file that was changed, or that does not belong there.
    """
    load_plugins(plugins)
    opened = _open(model, device, root, uri)
    if runtime == "eager" and not runtime_options:
        return opened
    from segtune.inference.labeler import RegionLabeler

    if isinstance(opened, RegionLabeler):
        raise ConfigError(
            f"runtime={runtime}: '{model}' is a labeler, which runs in eager only. Leave it out."
        )
    return opened.using(runtime, options=runtime_options)


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


def workflow(name: str, *overrides: str, root: str = ROOT, uri: str | None = None) -> "Workflow":
    """Assemble the workflow of `conf/workflow/NAME.yaml`: `workflow("driving").segment("a.jpg")`.

    Args:
        overrides: `workflow.KEY=VALUE`, as `workflow.segmenter=models:/mine/3`.

    Raises:
        ConfigError: an unknown name or key; or a part that is missing or does not fit the
            segmenter.
    """
    from segtune.api.workflows import assemble, read_workflow

    config = read_workflow(name, overrides)
    return assemble(name, config, open_root(root, uri))


def promote_workflow(
    name: str,
    model: str,
    *overrides: str,
    root: str = ROOT,
    uri: str | None = None,
    experiment: str = EXPERIMENT,
) -> "Promotion":
    """Register a workflow, with the files of all its parts, as one model; make it champion.

    No gate judges it: its segmenter and labelers passed their own gates.

    Raises:
        ConfigError: see `workflow`; or a model name that MLflow refuses.
    """
    from segtune.api.workflows import assemble, read_workflow, register_workflow

    config = read_workflow(name, overrides)
    store = open_root(root, uri, experiment)
    return register_workflow(assemble(name, config, store), model, store)


def predict(  # 9 parameters: keyword arguments of the public API
    model: "str | Path | Workflow",
    source: str | Path | Sequence[str | Path],
    output: str | Path = "predictions",
    *,
    regions: Literal["concept", "components"] | None = None,
    overwrite: bool = False,
    root: str = ROOT,
    uri: str | None = None,
    say: Log = to_stderr,
    **options: Any,
) -> "Prediction":
    """Turn images and videos into regions, masks and overlays.

    Args:
        model: a segmenter or workflow: URI, run, folder, or the result of `workflow`.
        source: files, folders or globs; `-` for standard input; `NAME:SPLIT` for the images of a
            dataset; `street:clips` for its videos.
        output: folder to write.
        regions: `concept` for one region per class, `components` for one per connected component;
            None for the choice of the workflow, else `concept`.
        overwrite: replace earlier predictions.
        options: formats, format_options, min_area, tile, overlap, tta, sample_ms, smooth,
            max_pixels, runtime, runtime_options; see `inference.options.Options`.

    Raises:
        SegtuneError: see `segtune.errors`. The result names the files that cannot be read.
    """
    from segtune.inference.labeler import RegionLabeler
    from segtune.inference.options import Options
    from segtune.inference.prediction.job import predict as predict_files
    from segtune.inference.prediction.request import PredictionRequest
    from segtune.inference.workflow.workflow import Workflow
    from segtune.runtime.progress import ProgressReporter

    Options(**options)  # a mistake is reported before anything is loaded
    sources = [source] if isinstance(source, str | Path) else list(source)
    paths = [_source_path(str(s), say) for s in sources]
    opened = model if isinstance(model, Workflow) else load(model, root=root, uri=uri)
    if isinstance(opened, RegionLabeler):
        raise ConfigError(
            f"model={model} is a labeler, which finds no regions itself: use it in a workflow."
        )
    if regions:
        options["split"] = regions
    request = PredictionRequest(
        sources=paths,
        output=Path(output),
        model=f"workflow {model.name}" if isinstance(model, Workflow) else str(model),
        options=opened.options(options) if isinstance(opened, Workflow) else Options(**options),
        overwrite=overwrite,
    )
    with ProgressReporter(say) as progress:
        return predict_files(opened, request, progress.say, progress)


def _source_path(source: str, say: Log) -> str:
    """Return the folder of a dataset's split (`street:test`); any other source as it is."""
    name, _, split = source.partition(":")
    if not split or Path(source).exists():
        return source
    from segtune.config.conf_files import members

    if name not in members("dataset"):
        return source
    from segtune.data.sources import open_source

    dataset = open_source(compose(f"dataset={name}").config.dataset, say)
    folder = dataset.root / dataset.config.images.format(split=split)
    return str(folder if folder.is_dir() else dataset.root / split)
