"""check and import: examine a dataset, or convert one."""

from segtune.cli.asking import terminal_ask
from segtune.cli.declaration import Call, Option, Outcome, Verb
from segtune.errors import ConfigError, DataError


def _check(call: Call) -> Outcome:
    """Examine a dataset; exit code 3 if more of it is bad than its tolerance allows."""
    from segtune.api import datasets

    output, runs = call.options.get("output"), call.options.get("run")
    if call.flag("labels") or runs is not None:
        if runs is None:
            raise ConfigError(
                "check --labels needs run=RUN: a run trained on this dataset, or several runs, "
                "separated by commas."
            )
        ranking = datasets.rank_labels(runs, *call.overrides, output=output)
        return Outcome(ranking.to_json(), ranking.lines())
    check = datasets.check(*call.overrides, fix=call.flag("fix"), output=output, ask=terminal_ask())
    exit_code = DataError.exit_code if check.audit.refused else 0
    return Outcome(check.to_json(), check.lines(), exit_code)


def _import(call: Call) -> Outcome:
    from segtune.api import importing
    from segtune.runtime.log import to_stderr

    source = call.one_name("folder, table or archive")
    annotations = call.given(*(option.name for option in _ANNOTATIONS))
    words = [f"dataset.annotations.{key}={value}" for key, value in annotations.items()]
    options = call.given("format", "overwrite", "dry_run")
    imported = importing.import_dataset(
        source,
        call.options["output"],
        *words,
        *call.overrides,
        **options,
        say=to_stderr,
        ask=terminal_ask(),
    )
    return Outcome(imported.to_json(), imported.lines())


_IMPORT = "segtune.api.importing:import_dataset"
_AREAS = "segtune.config.dataset_schema:AnnotationsConfig"

# each is short for dataset.annotations.KEY
_ANNOTATIONS = (
    Option("order", "which one of two overlapping areas is on top", "text", _AREAS),
    Option("polygons", "which pixels belong to a polygon", "text", _AREAS),
    Option("unlabelled", "class of the pixels outside all areas", "text", _AREAS),
    Option("crowd", "class of the pixels in COCO's crowd areas", "text", _AREAS),
    Option("finer", "attribute of an area that holds its finer label", "text", _AREAS),
    Option("label", "attribute with an area's class (VIA); column of masks", value="NAME"),
    Option("relocate", "OLD:NEW replaces the beginning of absolute paths", value="OLD:NEW"),
    Option("runs", "order of the pixels that run lengths count (Kaggle)", "text", _AREAS),
    Option("annotator", "Label Studio's annotator whose annotations count", value="ID"),
)

VERBS = {
    "check": Verb(
        _check,
        "Examine a dataset before training, and offer repairs.",
        "segtune check dataset=folder dataset.root=roads --fix",
        options=(
            Option(
                "fix",
                "write fixes.yaml, which repairs how the dataset is read; the files of "
                "the dataset stay as they are",
                "flag",
            ),
            Option(
                "labels",
                "rank the images by how much a trained model contradicts their "
                "masks; needs run=RUN",
                "flag",
            ),
            Option(
                "run",
                "run for --labels, or several runs separated by commas",
                "list",
                value="RUN",
                completes="run",
            ),
            Option(
                "output",
                "folder of the page",
                "path",
                value="DIR",
                default_text="checks/NAME in tracking.root",
                completes="file",
            ),
        ),
        passes=("*",),
    ),
    "import": Verb(
        _import,
        "Convert annotations of any known format into images, index masks, classes and splits.",
        "segtune import labels/coco output=roads",
        names="SOURCE",
        options=(
            Option(
                "output", "folder to write", "path", value="DIR", required=True, completes="file"
            ),
            Option(
                "format",
                "format, or a dataset with the same layout; auto looks at the files",
                "text",
                _IMPORT,
            ),
            *_ANNOTATIONS,
            Option("overwrite", "replace an earlier import", "boolean", _IMPORT),
            Option(
                "dry_run",
                "only say how SOURCE is understood, and draw samples beside the output",
                "boolean",
                _IMPORT,
            ),
        ),
        passes=("dataset",),
        completes=("file",),
    ),
}
