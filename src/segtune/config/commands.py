"""The commands that segtune prints: each runs as printed, in the folder where it was printed."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.config.conf_folders import conf_dirs
from segtune.config.renamed import current_word
from segtune.plugins.given import GIVEN
from segtune.runtime.quoting import quoted, unquoted

if TYPE_CHECKING:
    from segtune.config.dataset_schema import DatasetConfig
    from segtune.config.schema import TrackingConfig

_PLAIN = re.compile(r"[A-Za-z_/][\w/.:@-]*", re.ASCII)
_STORE_KEYS = {
    **dict.fromkeys(("status", "stop", "retry"), ("root",)),
    **dict.fromkeys(("predict", "rollback"), ("root", "uri")),
}
"""Verb -> keys of the store that it takes; other verbs take all keys."""

_ALL_STORE_KEYS = ("root", "uri", "experiment")
_SECTIONS = ("splits", "annotations", "street", "download")
"""Sections of a dataset: a command names their keys one by one."""

_OTHER_TYPES = ("true", "false", "null", "nan", "inf")
_NEEDS_QUOTES = re.compile(r"null|['\"{\[].*|")  # Hydra reads such a word as no text

_PATH_KEYS = (
    "dataset.root",
    "dataset.fixes",
    "dataset.unlabelled",
    "tracking.root",
    "hp.pretrained_weights",
    "loss.teacher",
)
_NO_PATH = re.compile(r"null|none|imagenet|bundled|[0-9a-f]{32}|[{\[].*|.*(:/|\$\{).*|")
"""Names, ids of runs, mappings, addresses and interpolations that stand in place of a path."""


def command(
    verb: str,
    *words: str,
    tracking: "TrackingConfig | None" = None,
    dataset: "DatasetConfig | None" = None,
    **values: Any,
) -> str:
    """Return a command for a shell, quoted.

    Args:
        words: names and flags, and key=value words as the user gave them.
        tracking: the store; the command names only the keys that differ from the default store.
        dataset: the dataset of the command.
        values: more key=value words; a value of None leaves the word out.

    >>> command("promote", "quickstart", model="street").partition("segtune ")[2]
    'promote quickstart model=street'
    """
    parts = [*program(), verb, *words]
    parts += [word("plugins", ",".join(GIVEN))] if GIVEN else []
    parts += [] if dataset is None else dataset_words(dataset)
    parts += [word(key, value) for key, value in values.items() if value is not None]
    parts += (
        [] if tracking is None else tracking_words(tracking, _STORE_KEYS.get(verb, _ALL_STORE_KEYS))
    )
    return shlex.join(parts)


def absolute_words(words: Sequence[str]) -> list[str]:
    """Make relative paths absolute, so that key=value words mean the same in every folder.

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
    """Return the words after the verb of a recorded command, with the present names of keys.

    A command with another verb has none. Plugins are left out: a record loads no code.

    >>> recorded_words("python -m segtune train 'dataset.root=my roads' seed=3", "train")
    ['dataset.root=my roads', 'seed=3']
    """
    parts = shlex.split(text)
    words = parts[parts.index(verb) + 1 :] if verb in parts else []
    return [current_word(text) for text in words if not text.startswith("plugins=")]


def in_folder(folder: str, text: str) -> str:
    """Return a command that changes to a folder first.

    >>> in_folder("/my roads", "segtune sweep quickstart")
    "cd '/my roads' && segtune sweep quickstart"
    """
    return f"cd {shlex.quote(folder)} && {text}"


def program() -> list[str]:
    """Return the words that call segtune here, in the way in which this process was called."""
    on_path = shutil.which("segtune")
    script = Path(sys.argv[0] if sys.argv else "")
    if script.name == "__main__.py" and script.parent.name == "segtune":
        words = sys.orig_argv
        for end in range(2, len(words) + 1):
            if words[end - 2 : end] == ["-m", "segtune"]:
                return words[:end]
    is_script = script.name == "segtune" and script.is_file()
    if is_script and not (on_path and os.path.samefile(on_path, script)):
        return [str(script) if script.parent != Path() else f"./{script}"]
    return ["segtune"] if on_path else [sys.executable, "-m", "segtune"]


def tracking_words(tracking: "TrackingConfig", keys: Sequence[str] = _ALL_STORE_KEYS) -> list[str]:
    """Return the key=value words that name a store; none for the default store.

    >>> from segtune.config.schema import TrackingConfig
    >>> tracking_words(TrackingConfig()), tracking_words(TrackingConfig(root="/data/runs"))
    ([], ['tracking.root=/data/runs'])
    """
    from segtune.config.schema import TrackingConfig

    default, root = TrackingConfig(), Path(tracking.root).expanduser().absolute()
    words = [] if root == Path(default.root).absolute() else [word("tracking.root", str(root))]
    changed = [k for k in keys if k != "root" and getattr(tracking, k) != getattr(default, k)]
    return words + [word(f"tracking.{key}", getattr(tracking, key)) for key in changed]


def dataset_words(dataset: "DatasetConfig") -> list[str]:
    """Return the key=value words that choose a dataset.

    A composed dataset knows its words. For a recorded dataset they are worked out.

    >>> from segtune.config.dataset_schema import DatasetConfig
    >>> roads = DatasetConfig(name="roads", source="folder", root="/data", classes=["road", "car"])
    >>> dataset_words(roads)
    ['dataset=folder', 'dataset.name=roads', 'dataset.root=/data', 'dataset.classes=[road,car]']
    """
    if dataset.words:
        return list(dataset.words)
    member, defaults = _similar_member(dataset)
    excluded = {"table"}
    if not isinstance(dataset.fixes, str):
        excluded.add("fixes")  # their content is no word; a check shows the faults again
    values = dataset.model_dump(exclude=excluded)
    default_values = defaults.model_dump() | {"root": None}
    if defaults.classes is None and dataset.classes is not None:
        default_values |= _table_in(dataset.root)
    return [f"dataset={member}", *_differences("dataset", values, default_values)]


def _similar_member(dataset: "DatasetConfig") -> tuple[str, "DatasetConfig"]:
    """Return the member of `conf/dataset/` that is most similar to a dataset, and its content."""
    from segtune.config.dataset_schema import DatasetConfig

    for name in _candidates(dataset):
        member = _read_member(name)
        if member is None or member.source != dataset.source:
            continue
        if dataset.source != "folder" or member.download == dataset.download:
            return name, member
    return "folder", DatasetConfig(name="folder", source="folder")


def _candidates(dataset: "DatasetConfig") -> list[str]:
    """Return the members of `conf/dataset/` that a dataset may come from, the likeliest first."""
    if dataset.source == "street":
        return ["street"]
    if dataset.source == "annotations":
        return [dataset.annotations.format, "coco"] if dataset.annotations else ["coco"]
    if dataset.download is None:
        return []
    names = [dataset.name]
    for folder in conf_dirs():
        names += sorted(path.stem for path in (folder / "dataset").glob("*.yaml"))
    return names


def _read_member(name: str) -> "DatasetConfig | None":
    """Return a member of `conf/dataset/` without its root; None if it cannot be read by itself."""
    from pydantic import ValidationError

    from segtune.config.dataset_schema import DatasetConfig

    paths = [folder / "dataset" / f"{name}.yaml" for folder in conf_dirs()]
    path = next((p for p in paths if p.is_file()), None)
    values = None if path is None else _read_mapping(path)
    if values is None:
        return None
    try:
        return DatasetConfig.model_validate({**values, "root": None})
    except ValidationError:
        return None


def _table_in(root: str | None) -> dict[str, Any]:
    """Return the settings in a dataset's `classes.yaml`, which a command need not repeat."""
    from segtune.config.dataset_schema import CLASSES_FILE, TableConfig

    values = _read_mapping(Path(root) / CLASSES_FILE) if root else None
    return {k: v for k, v in (values or {}).items() if k in TableConfig.model_fields}


def _read_mapping(path: Path) -> dict[str, Any] | None:
    """Return the content of a YAML file; None if it cannot be read, or holds no mapping."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return values if isinstance(values, dict) else None


def _differences(key: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Return the words for the values of a section that differ from its defaults."""
    words = []
    for name, value in values.items():
        default = defaults[name]
        if name in _SECTIONS and isinstance(value, Mapping) and isinstance(default, Mapping):
            words += _differences(f"{key}.{name}", value, default)
        elif value != default:
            words.append(word(f"{key}.{name}", value))
    return words


def chosen_dataset(member: str, overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a run that choose its dataset.

    Args:
        member: member of `conf/dataset/`, for overrides that name none.
        overrides: all overrides of the run.

    >>> chosen_dataset("camvid", ["seed=3", "dataset.tolerance=0"])
    ['dataset=camvid', 'dataset.tolerance=0']
    """
    keys = {override: override.lstrip("+~").partition("=")[0] for override in overrides}
    words = [override for override, key in keys.items() if key.split(".")[0] == "dataset"]
    return words if "dataset" in keys.values() else [f"dataset={member}", *words]


def word(key: str, value: Any) -> str:
    """Return a key=value word as the command line reads it, not yet quoted for a shell.

    >>> word("dataset.root", "my roads"), word("seed", 3)
    ('dataset.root=my roads', 'seed=3')
    >>> word("dataset.classes", ["a", {"name": "b c"}])
    "dataset.classes=[a,{name:'b c'}]"
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
