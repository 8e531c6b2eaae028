"""The verbs of datasets and exports: check, import, export."""

from collections.abc import Callable
from typing import Any

from segtune.errors import ConfigError, DataError, nearest
from segtune.verbs.call import Call, Outcome

_SHORT = ("order", "polygons", "unlabelled", "crowd", "finer", "relocate")


def check(call: Call) -> Outcome:
    """Examines a dataset; exit code 3 where more is wrong than its tolerance lets pass."""
    from segtune import datasets

    if call.names:
        raise ConfigError(f"'{call.names[0]}' is not key=value, e.g. dataset=street.")
    own = dict(o.split("=", 1) for o in call.overrides if o.startswith(("output=", "run=")))
    rest = [o for o in call.overrides if not o.startswith(("output=", "run="))]
    if call.flags.labels or "run" in own:
        if "run" not in own:
            raise ConfigError("check --labels needs run=RUN: a run, or several with commas, trained on this dataset.")
        ranked = datasets.rank_labels(own["run"].split(","), *rest, output=own.get("output"))
        return Outcome(ranked.to_json(), ranked.lines())
    done = datasets.check(*rest, fix=call.flags.fix, output=own.get("output"))
    return Outcome(done.to_json(), done.lines(), DataError.exit_code if done.audit.refused else 0)


def bring(call: Call) -> Outcome:
    """Imports annotations."""
    from segtune import datasets

    source = call.one_name("folder, table or archive")
    own = call.among(("output", "format", "overwrite"))
    rest = [o for o in call.overrides if o.partition("=")[0] not in own]
    rest = [f"dataset.annotations.{o}" if o.partition("=")[0] in _SHORT else o for o in rest]
    if "output" not in own:
        raise ConfigError("import needs output=DIR: where the images, masks and classes are to be written.")
    known = ("output", "format", "overwrite", *_SHORT)
    for key in (o.partition("=")[0] for o in rest):
        if not key.startswith("dataset."):
            raise ConfigError(f"{key}: no such key of import, which takes dataset.KEY=VALUE too; {nearest(key, known)}")
    overwrite = own.get("overwrite", "false").lower() in ("true", "1", "yes")
    done = datasets.import_dataset(
        source, own["output"], *rest, format=own.get("format", "auto"), overwrite=overwrite, say=_to_stderr
    )
    return Outcome(done.to_json(), done.lines())


def _to_stderr(line: str) -> None:
    from segtune.api import to_stderr

    to_stderr(line)


def export(call: Call) -> Outcome:
    """Exports a segmenter; exit code 3 where the export does not agree with it."""
    check_keys = ("model", "format", "output", "images", "min_agreement", "overwrite")
    given = call.among(check_keys)
    rest = [o for o in call.overrides if o.partition("=")[0] not in given]
    if "model" not in given or call.names:
        raise ConfigError("export needs model=URI and format=onnx|openvino|int8, e.g. model=models:/street@champion.")
    from segtune import datasets

    done = datasets.export(
        given["model"],
        *rest,
        format=given.get("format", "onnx"),
        output=given.get("output"),
        images=_number("images", given.get("images", "50"), int),
        min_agreement=_number("min_agreement", given["min_agreement"], float) if "min_agreement" in given else None,
        overwrite=given.get("overwrite", "false").lower() in ("true", "1", "yes"),
        say=_to_stderr,
    )
    return Outcome(done.to_json(), done.lines())


def _number(key: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise ConfigError(f"{key}={text}: a number above 0 is expected.")
    return value
