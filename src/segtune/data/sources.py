"""Open a dataset: image/mask folders, annotations, a verified download, or the street scenes."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic

from segtune.classes import ClassTable
from segtune.config.commands import command, dataset_words
from segtune.config.dataset_schema import (
    CLASSES_FILE,
    DatasetConfig,
    FixesConfig,
    SplitsConfig,
    TableConfig,
)
from segtune.data.source.download import build_folder, download
from segtune.data.source.files import cache_dir, read_mapping
from segtune.data.source.layout import Source
from segtune.data.source.places import no_classes, root_of
from segtune.errors import ConfigError, DataError
from segtune.runtime.cache_store import CacheStore
from segtune.runtime.log import Log, silent

_TABLE_KEYS = {"classes", "ignore", "finer", "groups", "thin_classes"}  # of classes.yaml
_KEYS_OF_010 = {"annotations", "download", "fixes", "street", "tolerance"}
"""A user never gives all of these; a config that version 0.1.0 recorded has every key."""


def open_source(config: DatasetConfig, say: Log = silent) -> Source:
    """Open a dataset; draw (street), download or convert (annotations) it first where needed.

    Args:
        say: prints a line for each step that takes time.

    Raises:
        DataError: the root does not exist and there is no download, or a download has other content
            than expected.
    """
    if config.source == "street":
        return _source(config, _street_root(config, say))
    root = root_of(config)
    if not root.exists():
        assert config.download is not None  # else root_of refused
        download(config.name, config.download, root, say)
    if config.source == "annotations":
        from segtune.data.formats.canonical import converted

        root = converted(config, root, say)
    return _source(config, root)


def resolved(config: DatasetConfig, source: Source) -> DatasetConfig:
    """The config of an opened dataset as a run records it, independent of any other file."""
    root = None if config.root is None else str(Path(config.root).expanduser().absolute())
    table = {key: getattr(source.config, key) for key in TableConfig.model_fields}
    unlabelled = None if config.unlabelled is None else str(Path(config.unlabelled).absolute())
    update = {
        "root": root,
        "unlabelled": unlabelled,
        "fixes": source.config.fixes,
        "table": TableConfig.model_validate(table),
    }
    if config.source != "annotations":  # for annotations, `classes` says how to convert them
        update |= table
    return config.model_copy(update=update)


def advice_on_test(source: Source) -> str:
    """How to make a test split, for a dataset without one; empty for a dataset that has one."""
    splits = source.splits()
    if "test" in splits:
        return ""
    start = f"no test split: {source.name} has {', '.join(splits)}. To have one, "
    config = source.config.splits or SplitsConfig()
    if config.lists:
        return f"{start}add the list '{source.folder(config.lists, 'test')}'."
    divided = config.model_copy(update={"test": 0.2, "stratify": False})
    try:
        replace(source, config=source.config.model_copy(update={"splits": divided})).splits()
    except DataError:  # too few images or groups to divide them
        images = source.folder(source.config.images, "test")
        masks = source.folder(source.config.masks, "test")
        return f"{start}put images that train and val do not show into '{images}' and '{masks}'."
    override = "dataset.splits.test=0.2"
    example = command("train", *dataset_words(source.config), override)
    return f"{start}train with {override}, which divides all images anew: {example}"


def _source(config: DatasetConfig, root: Path) -> Source:
    config = _with_fixes(_with_table(config, root))
    assert config.classes is not None
    return Source(config.name, root, ClassTable.parse(config.classes, config.ignore), config)


def _with_table(config: DatasetConfig, root: Path) -> DatasetConfig:
    """The config with the class table that a run recorded, else with that of `classes.yaml`.

    Keys that the user gave win over `classes.yaml`.
    """
    if config.table is not None:
        return config.model_copy(update=dict(config.table))
    path = root / CLASSES_FILE
    if not path.is_file():
        if config.classes is None:
            raise no_classes(config, root)
        return config
    table = read_mapping(path)
    unknown = set(table) - _TABLE_KEYS - {"from"}
    if unknown or not isinstance(table.get("classes"), list):
        raise DataError(
            f"'{path}' holds {sorted(table)}; allowed: a list of classes, and "
            f"{sorted(_TABLE_KEYS - {'classes'})}."
        )
    keys = _TABLE_KEYS - _given_keys(config)
    update = {key: value for key, value in table.items() if key in keys}
    return config.model_copy(update=update)


def _given_keys(config: DatasetConfig) -> set[str]:
    """The keys that win over `classes.yaml`."""
    keys: set[str] = set()
    if config.source == "folder":
        keys = set(config.model_fields_set)
        if keys >= _KEYS_OF_010:
            defaults = DatasetConfig(name=config.name, source=config.source)
            keys = {k for k in keys if getattr(config, k) != getattr(defaults, k)}
    keys.discard("classes")
    return keys if config.classes is None else keys | {"classes"}


def _with_fixes(config: DatasetConfig) -> DatasetConfig:
    """The config with its fixes read and applied."""
    if config.fixes is None:
        return config
    fixes = config.fixes if isinstance(config.fixes, FixesConfig) else _read_fixes(config)
    update: dict[str, Any] = {"fixes": fixes, "label_map": {**config.label_map, **fixes.label_map}}
    for key in FixesConfig.REPLACED:
        if getattr(fixes, key) is not None:
            update[key] = getattr(fixes, key)
    return config.model_copy(update=update)


def _read_fixes(config: DatasetConfig) -> FixesConfig:
    path = Path(os.path.expanduser(str(config.fixes)))
    if not path.is_file():
        raise ConfigError(
            f"dataset.fixes={config.fixes}: no such file. To write one: "
            f"{command('check', '--fix', dataset=_without_fixes(config))}"
        )
    content = read_mapping(path)
    content.pop("dataset", None)
    try:
        return FixesConfig.model_validate(content)
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise ConfigError(f"dataset.fixes={path}: {key}: {fault['msg']}.") from None


def _without_fixes(config: DatasetConfig) -> DatasetConfig:
    words = [word for word in config.words if not word.startswith("dataset.fixes=")]
    return config.model_copy(update={"fixes": None}).chosen_by(words)


def _street_root(config: DatasetConfig, say: Log) -> Path:
    """The folder of the scenes, drawn once for equal settings."""
    from segtune.data.street import files as street_files

    settings = config.street
    if settings is None:
        raise DataError(
            f"dataset '{config.name}': source 'street' needs dataset.street "
            "(width, height, train, val, …)."
        )
    facts = json.dumps([street_files.VERSION, settings.model_dump()])
    key = hashlib.sha256(facts.encode()).hexdigest()[:12]

    def draw(folder: Path) -> None:
        street_files.write_dataset(folder, settings, say)

    if not config.root:
        return CacheStore(cache_dir()).open(f"street-{key}", draw, read=lambda folder: folder)
    root = Path(os.path.expanduser(config.root)).absolute()
    if not root.is_dir():
        build_folder(root, draw)
    return root
