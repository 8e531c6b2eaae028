"""check and import: examine a dataset, or convert one."""

from typing import Any

from segtune.cli.declaration import Call, Option, Outcome, Verb
from segtune.errors import ConfigError, DataError


def _check(call: Call) -> Outcome:
    """Examines a dataset; exit code 3 where more is wrong than its tolerance allows."""
    from segtune.api import datasets

    output, runs = call.options.get("output"), call.options.get("run")
    if call.flag("labels") or runs is not None:
        if runs is None:
            raise ConfigError(
                "check --labels needs run=RUN: a run, or several with commas, trained on this dataset."
            )
        ranked = datasets.rank_labels(runs, *call.overrides, output=output)
        return Outcome(ranked.to_json(), ranked.lines())
    done = datasets.check(*call.overrides, fix=call.flag("fix"), output=output)
    return Outcome(done.to_json(), done.lines(), DataError.exit_code if done.audit.refused else 0)


def _import(call: Call) -> Outcome:
    """Imports annotations."""
    from segtune.api import datasets
    from segtune.api.experiments import to_stderr

    source = call.one_name("folder, table or archive")
    own: dict[str, Any] = call.given("format", "overwrite")
    short = [
        f"dataset.annotations.{k}={v}" for k, v in call.given(*(o.name for o in _SHORT)).items()
    ]
    done = datasets.import_dataset(
        source, call.options["output"], *short, *call.overrides, **own, say=to_stderr
    )
    return Outcome(done.to_json(), done.lines())


# short for dataset.annotations.KEY
_SHORT = (
    Option("order", "which of two overlapping areas is on top",
           choices=("auto", "largest_first", "file", "file_reversed", "z"), default="auto"),
    Option("polygons", "which pixels belong to a polygon", choices=("auto", "coco", "outline"), default="auto"),
    Option("unlabelled", "class of the pixels that no area covers", choices=("background", "ignore"),
           default="background"),
    Option("crowd", "class of the pixels of COCO's crowd areas", choices=("class", "ignore"), default="class"),
    Option("finer", "attribute of an area that holds its finer label", default="auto"),
    Option("relocate", "OLD:NEW replaces the beginning of absolute paths", value="OLD:NEW"),
)  # fmt: skip

VERBS = {
    "check": Verb(
        _check,
        "Examine a dataset before training, and offer repairs.",
        "segtune check dataset=folder dataset.root=roads --fix",
        options=(
            Option("fix", "write fixes.yaml, which repairs how the dataset is read; no file of it changes", "flag"),
            Option("labels", "rank the images whose truth a trained model disputes; needs run=RUN", "flag"),
            Option("run", "run, or several with commas, for --labels", "list", "RUN", completes="run"),
            Option("output", "folder of the page", "path", "DIR", completes="file"),
        ),
        passes=("*",),
    ),
    "import": Verb(
        _import,
        "Convert annotations of any known format into images, index masks, classes and splits.",
        "segtune import labels/coco output=roads",
        names="SOURCE",
        options=(
            Option("output", "folder that is written", "path", "DIR", required=True, completes="file"),
            Option("format", "format, or a dataset laid out alike; auto looks at the files", default="auto"),
            *_SHORT,
            Option("overwrite", "replace an earlier import", "boolean", default="false"),
        ),
        passes=("dataset",),
        completes=("file",),
    ),
}  # fmt: skip
