"""autolabel: proposals of a segmenter for a labelling tool."""

from segtune.cli.declaration import STORE, Call, Option, Outcome, Verb, store_options
from segtune.errors import ConfigError, PartialError

_SHOWN = 5  # of the least certain images


def _autolabel(call: Call) -> Outcome:
    from segtune.api import labelling

    sources = [*call.names, *call.given("source").values()]
    if "model" not in call.options or not sources:
        raise ConfigError(
            "autolabel needs source=PATH and model=URI, e.g. model=models:/street@champion "
            "source=photos/."
        )
    options = call.given("output", "formats", "min_area", "overwrite")
    result = labelling.autolabel(call.options["model"], sources, **options, **store_options(call))
    lines = [f"{len(result.images)} images: {', '.join(result.files)} in {result.output}"]
    lines.append("least certain, label these first:")
    for name, confidence in list(result.images.items())[:_SHOWN]:
        lines.append(f"  {confidence:.2f}  {name}")
    lines += [f"left out: {reason}" for reason in result.failed.values()]
    return Outcome(result.to_json(), lines, PartialError.exit_code if result.failed else 0)


_AUTOLABEL = "segtune.api.labelling:autolabel"

VERBS = {
    "autolabel": Verb(
        _autolabel,
        "Write proposals with confidence for a labelling tool, the least certain images first.",
        "segtune autolabel model=models:/street@champion source=photos/ output=proposals",
        names="[SOURCE …]",
        options=(
            Option(
                "model",
                "segmenter: models:/NAME@champion, runs:/ID, the id of a run, or a folder",
                value="URI",
                completes="model",
            ),
            Option(
                "source",
                "file, folder, glob or DATASET:SPLIT",
                "path",
                completes="file",
            ),
            Option("output", "folder to write", "path", _AUTOLABEL, "DIR", completes="file"),
            Option("formats", "labelling tools to write for", "list", _AUTOLABEL),
            Option("min_area", "leave out areas with fewer pixels", "integer", _AUTOLABEL, above=0),
            Option("overwrite", "replace earlier proposals", "boolean", _AUTOLABEL),
            *STORE,
        ),
        completes=("file",),
    ),
}
