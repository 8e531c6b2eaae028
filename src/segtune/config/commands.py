"""The commands that segtune prints: each runs as printed, from the folder where it was printed."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.config.conf_folders import conf_dirs
from segtune.config.quoting import quoted, unquoted

if TYPE_CHECKING:
    from segtune.config.dataset_schema import DatasetConfig
    from segtune.config.schema import TrackingConfig

_PLAIN = re.compile(r"[A-Za-z_/][\w/.:@-]*", re.ASCII)
_STORE_KEYS = {verb: ("root",) for verb in ("status", "stop", "retry")} | {
    verb: ("root", "uri") for verb in ("predict", "rollback")
}
"""Keys of the store that a verb takes; verbs not named here take all of them."""

_SECTIONS = (
    "splits",
    "annotations",
    "street",
    "download",
)  # of a dataset: their keys are named one by one
_OTHER_TYPES = ("true", "false", "null", "nan", "inf")
_NEEDS_QUOTES = re.compile(r"null|['\"{\[].*|")  # where a word as it is would not be read as text


def command(
    verb: str,
    *words: str,
    tracking: "TrackingConfig | None" = None,
    dataset: "DatasetConfig | None" = None,
    **values: Any,
) -> str:
    """A command for a shell, quoted.

    Args:
        words: names and flags, and key=value words as the user gave them.
        tracking: the store; what differs from the default is passed on.
        dataset: the dataset that the command is about.
        values: further key=value words; None leaves one out.

    >>> command("promote", "quickstart", model="street").endswith("segtune promote quickstart model=street")
    True
    """
    parts = [*program(), verb, *words]
    parts += [] if dataset is None else dataset_words(dataset)
    parts += [word(key, value) for key, value in values.items() if value is not None]
    parts += [] if tracking is None else tracking_words(tracking, _STORE_KEYS.get(verb, _ALL))
    return shlex.join(parts)


_PATH_KEYS = ("dataset.root", "dataset.fixes", "tracking.root", "hp.pretrained_weights")
_NO_PATH = re.compile(
    r"null|none|imagenet|[{\[].*|.*(:/|\$\{).*|"
)  # names, mappings, addresses, interpolations


def absolute_words(words: Sequence[str]) -> list[str]:
    """key=value words that mean the same from any folder: relative paths become absolute.

    >>> absolute_words(["seed=3", "dataset.root=/data", "hp.pretrained_weights=imagenet"])
    ['seed=3', 'dataset.root=/data', 'hp.pretrained_weights=imagenet']
    """
    result = []
    for text in words:
        key, _, raw = text.partition("=")
        if key.lstrip("+") in _PATH_KEYS and not _NO_PATH.fullmatch(raw):
            text = word(key, str(Path(unquoted(raw)).expanduser().absolute()))
        result.append(text)
    return result


def recorded_words(text: str, verb: str) -> list[str]:
    """The words behind the verb of a command that was recorded; none where it is another verb's.

    >>> recorded_words("python -m segtune train 'dataset.root=my roads' seed=3", "train")
    ['dataset.root=my roads', 'seed=3']
    """
    parts = shlex.split(text)
    return parts[parts.index(verb) + 1 :] if verb in parts else []


def in_folder(folder: str, text: str) -> str:
    """A command to give in a folder, from any other.

    >>> in_folder("/my roads", "segtune sweep quickstart")
    "cd '/my roads' && segtune sweep quickstart"
    """
    return f"cd {shlex.quote(folder)} && {text}"


def program() -> list[str]:
    """The words that call segtune here: as this process was called, or so that its Python is found."""
    on_path, called = shutil.which("segtune"), Path(sys.argv[0] if sys.argv else "")
    if called.name == "__main__.py" and called.parent.name == "segtune":
        end = next((n + 2 for n, pair in enumerate(zip(sys.orig_argv, sys.orig_argv[1:], strict=False))
                    if pair == ("-m", "segtune")), 0)  # fmt: skip
        if end:
            return sys.orig_argv[:end]
    if (
        called.name == "segtune"
        and called.is_file()
        and not (on_path and os.path.samefile(on_path, called))
    ):
        return [str(called) if called.parent != Path() else f"./{called}"]
    return ["segtune"] if on_path else [sys.executable, "-m", "segtune"]


_ALL = ("root", "uri", "experiment")


def tracking_words(tracking: "TrackingConfig", keys: Sequence[str] = _ALL) -> list[str]:
    """The key=value words that name a store; none for the default store.

    >>> from segtune.config.schema import TrackingConfig
    >>> tracking_words(TrackingConfig()), tracking_words(TrackingConfig(root="/data/runs"))
    ([], ['tracking.root=/data/runs'])
    """
    from segtune.config.schema import TrackingConfig

    usual, root = TrackingConfig(), Path(tracking.root).expanduser().absolute()
    words = [] if root == Path(usual.root).absolute() else [word("tracking.root", str(root))]
    changed = [k for k in keys if k != "root" and getattr(tracking, k) != getattr(usual, k)]
    return words + [word(f"tracking.{key}", getattr(tracking, key)) for key in changed]


def dataset_words(dataset: "DatasetConfig") -> list[str]:
    """The key=value words that choose a dataset: those that it was composed from, or equivalent ones.

    >>> from segtune.dataset_settings import DatasetConfig
    >>> dataset_words(DatasetConfig(name="roads", source="folder", root="/data", classes=["road", "car"]))
    ['dataset=folder', 'dataset.name=roads', 'dataset.root=/data', 'dataset.classes=[road,car]']
    """
    if dataset.words:
        return list(dataset.words)
    form, usual = _member(dataset)
    left_out = {"table"}
    if not isinstance(dataset.fixes, str):
        left_out.add("fixes")  # their content is no word; a check shows the faults again
    given = dataset.model_dump(exclude=left_out)
    without_words = usual.model_dump() | {"root": None}
    if usual.classes is None and dataset.classes is not None:
        without_words |= _table_beside(dataset.root)
    return [f"dataset={form}", *_differences("dataset", given, without_words)]


def _member(dataset: "DatasetConfig") -> tuple[str, "DatasetConfig"]:
    """The member of `conf/dataset/` that a recorded dataset was made from, or the most similar; and what it holds."""
    from segtune.config.dataset_schema import DatasetConfig

    similar = ["street"]
    if dataset.source == "annotations":
        similar = [dataset.annotations.format, "coco"] if dataset.annotations else ["coco"]
    elif dataset.source == "folder":
        paths = [
            path for folder in conf_dirs() for path in sorted((folder / "dataset").glob("*.yaml"))
        ]
        similar = [] if dataset.download is None else [dataset.name, *(path.stem for path in paths)]
    for name in similar:
        held = _read_member(name)
        if held is None or held.source != dataset.source:
            continue
        if dataset.source != "folder" or held.download == dataset.download:
            return name, held
    return "folder", DatasetConfig(name="folder", source="folder")


def _read_member(name: str) -> "DatasetConfig | None":
    """A member of `conf/dataset/` without its root; None where there is none that can be read by itself."""
    import yaml
    from pydantic import ValidationError

    from segtune.config.dataset_schema import DatasetConfig

    path = next(
        (p for folder in conf_dirs() if (p := folder / "dataset" / f"{name}.yaml").is_file()), None
    )
    if path is None:
        return None
    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
        return DatasetConfig.model_validate({**held, "root": None})
    except (OSError, TypeError, UnicodeDecodeError, yaml.YAMLError, ValidationError):
        return None


def _differences(key: str, given: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """The words that turn the usual values of a section into the given ones."""
    words = []
    for name, value in given.items():
        other = usual[name]
        if name in _SECTIONS and isinstance(value, Mapping) and isinstance(other, Mapping):
            words += _differences(f"{key}.{name}", value, other)
        elif value != other:
            words.append(word(f"{key}.{name}", value))
    return words


def _table_beside(root: str | None) -> dict[str, Any]:
    """Settings in a dataset's `classes.yaml`, which a command need not repeat; empty without a readable file."""
    import yaml

    from segtune.config.dataset_schema import CLASSES_FILE, TableConfig

    path = Path(root) / CLASSES_FILE if root else None
    if path is None or not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return (
        {k: found[k] for k in TableConfig.model_fields if k in found}
        if isinstance(found, dict)
        else {}
    )


def chosen_dataset(member: str, overrides: Sequence[str]) -> list[str]:
    """Those of a run's overrides that choose its dataset.

    >>> chosen_dataset("camvid", ["seed=3", "dataset.tolerance=0"])
    ['dataset=camvid', 'dataset.tolerance=0']
    """
    named = {o: o.lstrip("+~").partition("=")[0] for o in overrides}
    words = [o for o, key in named.items() if key.split(".")[0] == "dataset"]
    return words if "dataset" in named.values() else [f"dataset={member}", *words]


def word(key: str, value: Any) -> str:
    """A key=value word as the command line reads it, not yet quoted for a shell.

    >>> word("dataset.root", "my roads"), word("seed", 3), word("dataset.classes", ["a", {"name": "b c"}])
    ('dataset.root=my roads', 'seed=3', "dataset.classes=[a,{name:'b c'}]")
    """
    if isinstance(value, str) and not _NEEDS_QUOTES.fullmatch(value):
        return f"{key}={value}"
    return f"{key}={_text(value)}"


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_text, value)) + "]"
    text = str(value)
    if not isinstance(value, str) or (_PLAIN.fullmatch(text) and text.lower() not in _OTHER_TYPES):
        return text
    return quoted(text)
