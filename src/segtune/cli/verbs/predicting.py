"""predict and export: use a segmenter, here or in another runtime."""

from typing import Any

from segtune.cli.declaration import STORE, Call, Option, Outcome, Verb, store_options
from segtune.errors import ConfigError, PartialError


def _predict(call: Call) -> Outcome:
    from segtune.api import prediction

    options = dict(call.options)
    model: Any = options.get("model")
    workflow = options.get("workflow")
    sources = [*call.names, *([options["source"]] if "source" in options else [])]
    if (model is None) == (workflow is None) or not sources:
        raise ConfigError(
            "predict needs source=PATH, and either model=URI or workflow=NAME, e.g. "
            "model=models:/street@champion source=photos/."
        )
    if call.overrides and workflow is None:
        raise ConfigError(f"{call.overrides[0]}: changes a workflow; name it with workflow=NAME.")
    if workflow is not None:
        model = prediction.workflow(workflow, *call.overrides, **store_options(call))
    result = prediction.predict(
        model,
        sources,
        options.get("output", "predictions"),
        **call.given("regions", "overwrite", *(o.name for o in _LOOKS)),
        **store_options(call),
    )
    done = f"{result.images} images and {result.frames} video frames"
    lines = [f"{done}: regions.json and the rest in {result.output}"]
    lines += [f"partial: {name}: {what}" for name, what in result.partial.items()]
    lines += [f"left out: {reason}" for reason in result.failed.values()]
    incomplete = result.failed or result.partial
    return Outcome(result.to_json(), lines, PartialError.exit_code if incomplete else 0)


def _export(call: Call) -> Outcome:
    if "model" not in call.options:
        raise ConfigError(
            "export needs model=URI and format=onnx|openvino|int8, e.g. model=models:/street@champion."
        )
    from segtune.api import datasets
    from segtune.api.experiments import to_stderr

    own: dict[str, Any] = call.given("format", "output", "images", "min_agreement", "overwrite")
    done = datasets.export(call.options["model"], *call.overrides, **own, say=to_stderr)
    return Outcome(done.to_json(), done.lines())


_LOOKS = (
    Option("min_area", "components of fewer pixels are left out", "integer", default="16", above=0),
    Option(
        "formats",
        "files that are written besides regions.json",
        "list",
        choices=("masks", "overlays", "regions", "coco", "geojson", "yolo", "clarifai"),
        default="masks,overlays,regions",
    ),
    Option(
        "tile", "side of the tiles in which each image is looked at, in pixels", "integer", above=0
    ),
    Option(
        "overlap", "share of a tile's side that neighbours have in common", "number", default="0.25"
    ),
    Option("tta", "test-time augmentation", choices=("none", "flip", "scales"), default="none"),
    Option("sample_ms", "of a video, one frame every so many milliseconds", "number", above=0),
    Option(
        "smooth",
        "of a video, smoothing over time",
        choices=("none", "exponential", "flow"),
        default="none",
    ),
    Option("max_pixels", "larger images are refused", "integer", above=0),
    Option(
        "runtime",
        "what computes",
        choices=("auto", "eager", "bf16", "onnx", "openvino"),
        default="auto",
    ),
)
_MODEL = Option("model", "segmenter: models:/NAME@champion, runs:/ID, a run's id, or a folder", value="URI",
                completes="model")  # fmt: skip
_OVERWRITE = Option("overwrite", "replace an output that exists", "boolean", default="false")

VERBS = {
    "export": Verb(
        _export,
        "Write a graph for other runtimes, after comparing it with the segmenter on real images.",
        "segtune export model=models:/street@champion format=onnx",
        options=(
            _MODEL,
            Option("format", "kind of graph", choices=("onnx", "openvino", "int8"), default="onnx"),
            Option("output", "folder of the graph", "path", "DIR", "exports/FORMAT", completes="file"),
            Option("images", "images to compare on, at most", "integer", default="50", above=0),
            Option(
                "min_agreement", "least share of pixels of the same class", "number",
                default="0.999, for int8 0.95", above=0,
            ),
            _OVERWRITE,
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
            Option("workflow", "file of conf/workflow/ instead of model", value="NAME", completes="workflow"),
            Option(
                "source", "file, folder, glob, DATASET:SPLIT, or - for standard input", "path",
                completes="file",
            ),
            Option("output", "folder that is written", "path", "DIR", "predictions", completes="file"),
            Option(
                "regions", "one region per class, or one per connected area",
                choices=("concept", "components"), default="concept",
            ),
            *_LOOKS,
            _OVERWRITE,
            *STORE,
        ),
        passes=("workflow",),
        completes=("file",),
    ),
}  # fmt: skip
