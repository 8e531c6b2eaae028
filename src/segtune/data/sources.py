"""Where a dataset's pairs come from: image/mask folders, annotations, a verified download, or the street scenes."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
import yaml

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
from segtune.data.source.files import cache_dir
from segtune.data.source.layout import Source
from segtune.data.source.places import no_classes, root_of
from segtune.errors import ConfigError, DataError
from segtune.runtime.log import Log


def open_source(config: DatasetConfig, say: Log = lambda _: None) -> Source:
    """The dataset on disk: found, drawn (street), downloaded, or converted from annotations.

    Args:
        say: is told what takes time.

    Raises:
        DataError: the root is missing and nothing can be downloaded, or a download does not hold what it should.
    """
    if config.source == "street":
        return _source(config, _street_root(config, say))
    root = root_of(config)
    if not root.exists():
        assert config.download is not None  # else it was refused
        download(config.name, config.download, root, say)
    if config.source == "annotations":
        from segtune.data.formats import converted

        return _source(config, converted(config, root, say))
    return _source(config, root)


def advice_on_test(source: Source) -> str:
    """How to have a test split, for a dataset that has none; empty for one that has."""
    if "test" in source.splits():
        return ""
    before = f"no test split: {source.name} has {', '.join(source.splits())}. To have one, "
    splits, divide = source.config.splits or SplitsConfig(), "dataset.splits.test=0.2"
    if splits.lists:
        return f"{before}add the list '{source.folder(splits.lists, 'test')}'."
    divided = splits.model_copy(update={"test": 0.2, "stratify": False})
    try:
        replace(
            source, config=source.config.model_copy(update={"splits": divided}), _kept={}
        ).splits()
    except DataError:  # too few images or groups to divide them
        where = " and ".join(
            f"'{source.folder(p, 'test')}'" for p in (source.config.images, source.config.masks)
        )
        return f"{before}put images that train and val do not show into {where}."
    example = command("train", *dataset_words(source.config), divide)
    return f"{before}train with {divide}, which divides all images anew: {example}"


def _source(config: DatasetConfig, root: Path) -> Source:
    config = _with_fixes(_with_table(config, root))
    assert config.classes is not None
    return Source(config.name, root, ClassTable.parse(config.classes, config.ignore), config)


def _with_table(config: DatasetConfig, root: Path) -> DatasetConfig:
    """The config with the table that a run recorded, else with what `classes.yaml` says and the config does not."""
    if config.table is not None:
        return config.model_copy(update=dict(config.table))
    path = root / CLASSES_FILE
    if not path.is_file():
        if config.classes is None:
            raise no_classes(config, root)
        return config
    found = _read_yaml(path)
    known = {"classes", "ignore", "finer", "groups"}
    if set(found) - known - {"from"} or not isinstance(found.get("classes"), list):
        raise DataError(
            f"'{path}' holds {sorted(found)}; allowed: a list of classes, and {sorted(known - {'classes'})}."
        )
    given = _given(config) | ({"classes"} if config.classes is not None else set())
    return config.model_copy(update={k: found[k] for k in known & set(found) if k not in given})


def _given(config: DatasetConfig) -> set[str]:
    """The keys that count more than `classes.yaml`."""
    if config.source != "folder":
        return set()
    given = set(config.model_fields_set)
    if given >= _NEVER_ALL_GIVEN:  # recorded by version 0.1.0, with all its keys
        usual = DatasetConfig(name=config.name, source=config.source)
        given = {k for k in given if getattr(config, k) != getattr(usual, k)}
    return given if config.classes is not None else given - {"classes"}


_NEVER_ALL_GIVEN = {"annotations", "download", "fixes", "street", "tolerance"}


def resolved(config: DatasetConfig, source: Source) -> DatasetConfig:
    """The config of an opened dataset as a run records it: it depends on no other file, nor on the working folder."""
    root = None if config.root is None else str(Path(config.root).expanduser().absolute())
    table = {key: getattr(source.config, key) for key in TableConfig.model_fields}
    in_place = (
        {} if config.source == "annotations" else table
    )  # there, classes choose how they are converted
    update = {
        **in_place,
        "root": root,
        "fixes": source.config.fixes,
        "table": TableConfig.model_validate(table),
    }
    return config.model_copy(update=update)


def _with_fixes(config: DatasetConfig) -> DatasetConfig:
    if config.fixes is None:
        return config
    fixes = config.fixes
    if isinstance(fixes, str):
        path = Path(os.path.expanduser(fixes))
        if not path.is_file():
            raise ConfigError(
                f"dataset.fixes={fixes}: no such file. To write one: "
                f"{command('check', '--fix', dataset=_without_fixes(config))}"
            )
        try:
            fixes = FixesConfig.model_validate(
                {k: v for k, v in _read_yaml(path).items() if k != "dataset"}
            )
        except pydantic.ValidationError as error:
            fault = error.errors()[0]
            raise ConfigError(
                f"dataset.fixes={path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}."
            ) from None
    update: dict[str, Any] = {"fixes": fixes, "label_map": {**config.label_map, **fixes.label_map}}
    for key in ("mask_format", "reduce_zero_label", "splits", "classes"):
        if getattr(fixes, key) is not None:
            update[key] = getattr(fixes, key)
    return config.model_copy(update=update)


def _without_fixes(config: DatasetConfig) -> DatasetConfig:
    words = [w for w in config.words if not w.startswith("dataset.fixes=")]
    return config.model_copy(update={"fixes": None}).chosen_by(words)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(
            f"'{path}' cannot be read as YAML: {' '.join(str(error).split())[:200]}"
        ) from None
    if not isinstance(found, Mapping):
        raise DataError(f"'{path}' holds {type(found).__name__}; a mapping of keys is expected.")
    return dict(found)


def _street_root(config: DatasetConfig, say: Log) -> Path:
    """Draws the scenes once per setting; a second process waits for the first by finding its finished folder."""
    from segtune.data.street import files as street_files

    settings = config.street
    if settings is None:
        raise DataError(
            f"dataset '{config.name}': source 'street' needs dataset.street (width, height, train, val, …)."
        )
    key = hashlib.sha256(
        json.dumps([street_files.VERSION, settings.model_dump()]).encode()
    ).hexdigest()[:12]
    root = (
        Path(os.path.expanduser(config.root)).absolute()
        if config.root
        else cache_dir() / f"street-{key}"
    )
    if not root.is_dir():
        build_folder(root, lambda folder: street_files.write_dataset(folder, settings, say))
    return root
