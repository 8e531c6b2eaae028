"""predict and export: use a segmenter, here or in another runtime."""

from typing import Any

from segtune.cli.declaration import (
    RUNTIME_OPTIONS,
    STORE,
    Call,
    Option,
    Outcome,
    Verb,
    store_options,
)
from segtune.errors import ConfigError, PartialError


def _predict(call: Call) -> Outcome:
    from segtune.api import prediction

    model: Any = call.options.get("model")
    workflow = call.options.get("workflow")
    sources = [*call.names, *call.given("source").values()]
    if (model is None) == (workflow is None) or not sources:
        raise ConfigError(
            "predict needs source=PATH, and either model=URI or workflow=NAME, e.g. "
            "model=models:/street@champion source=photos/."
        )
    if call.overrides and workflow is None:
        raise ConfigError(f"{call.overrides[0]}: changes a workflow; name it with workflow=NAME.")
    if workflow is not None:
        model = prediction.workflow(workflow, *call.overrides, **store_options(call))
    fields = [option.name for option in _FIELDS]
    options = call.given("output", "regions", "overwrite", *fields)
    result = prediction.predict(model, sources, **options, **store_options(call))
    count = f"{result.images} images and {result.frames} video frames"
    lines = [f"{count}: regions.json and the other files in {result.output}"]
    lines += [f"partial: {name}: {reason}" for name, reason in result.partial.items()]
    lines += [f"left out: {reason}" for reason in result.failed.values()]
    is_incomplete = result.failed or result.partial
    return Outcome(result.to_json(), lines, PartialError.exit_code if is_incomplete else 0)


def _export(call: Call) -> Outcome:
    if "model" not in call.options:
        raise ConfigError(
            "export needs model=URI and format=onnx|openvino|int8, e.g. "
            "model=models:/street@champion."
        )
    from segtune.api import datasets
    from segtune.runtime.log import to_stderr

    options = call.given("format", "output", "images", "min_agreement", "overwrite")
    exported = datasets.export(call.options["model"], *call.overrides, **options, say=to_stderr)
    return Outcome(exported.to_json(), exported.lines())


_PREDICT = "segtune.api.prediction:predict"
_OPTIONS = "segtune.inference.options:Options"
_EXPORT = "segtune.api.datasets:export"

# each sets a field of Options
_FIELDS = (
    Option("min_area", "leave out regions with fewer pixels", "integer", _OPTIONS, above=0),
    Option("formats", "files to write besides regions.json", "list", _OPTIONS, group="writer"),
    Option(
        "format_options",
        "options of the writers, as format_options.overlays.opacity=0.7",
        "mapping",
        _OPTIONS,
        "{WRITER: {KEY: VALUE}}",
    ),
    Option(
        "tile",
        "side of the square tiles that images are cut into, in pixels",
        "integer",
        _OPTIONS,
        default_text="only images that are too large are cut",
        above=0,
    ),
    Option("overlap", "share of a tile that overlaps the next tile", "number", _OPTIONS),
    Option("tta", "test-time augmentation", "text", _OPTIONS),
    Option(
        "sample_ms",
        "take one video frame every X milliseconds",
        "number",
        _OPTIONS,
        default_text="every frame",
        above=0,
    ),
    Option("smooth", "smoothing over the frames of a video", "text", _OPTIONS),
    Option("max_pixels", "refuse larger images", "integer", _OPTIONS, above=0),
    Option(
        "runtime",
        "engine that computes; auto takes the fastest one",
        "text",
        _OPTIONS,
        group="engine",
    ),
    RUNTIME_OPTIONS,
)
_MODEL = Option(
    "model",
    "segmenter: models:/NAME@champion, runs:/ID, the id of a run, or a folder",
    value="URI",
    completes="model",
)

VERBS = {
    "export": Verb(
        _export,
        "Write a graph for other runtimes, after comparing it with the segmenter on real images.",
        "segtune export model=models:/street@champion format=onnx",
        options=(
            _MODEL,
            Option("format", "kind of graph", "text", _EXPORT),
            Option(
                "output",
                "folder of the graph",
                "path",
                _EXPORT,
                "DIR",
                default_text="exports/FORMAT",
                completes="file",
            ),
            Option("images", "compare on at most so many images", "integer", _EXPORT, above=0),
            Option(
                "min_agreement",
                "smallest share of pixels that must get the same class",
                "number",
                _EXPORT,
                default_text="0.999, for int8 0.95",
                above=0,
            ),
            Option("overwrite", "replace an earlier export", "boolean", _EXPORT),
        ),
        passes=("*",),
    ),
    "predict": Verb(
        _predict,
        "Turn images and videos into regions, masks and overlays.",
        "segtune predict model=models:/street@champion source=photos/ output=out",
        names="[SOURCE …]",
        options=(
            _MODEL,
            Option(
                "workflow",
                "file of conf/workflow/, in place of model",
                value="NAME",
                completes="workflow",
            ),
            Option(
                "source",
                "file, folder, glob, DATASET:SPLIT, or - for standard input",
                "path",
                completes="file",
            ),
            Option("output", "folder to write", "path", _PREDICT, "DIR", completes="file"),
            Option(
                "regions",
                "one region per class, or one per connected component",
                "text",
                _PREDICT,
                default_text="as the workflow says, else concept",
            ),
            *_FIELDS,
            Option("overwrite", "replace earlier predictions", "boolean", _PREDICT),
            *STORE,
        ),
        passes=("workflow",),
        completes=("file",),
    ),
}
