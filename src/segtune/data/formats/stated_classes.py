"""The classes of stored masks, as the config or a file beside a table states them."""

from pathlib import Path
from typing import Any

from segtune.classes import ClassTable
from segtune.config.dataset_schema import CLASSES_FILE, DatasetConfig
from segtune.data.formats.faults import reading
from segtune.data.source.files import read_json, read_mapping
from segtune.errors import ConfigError

_NAMES = "id2label.json"


def stated_classes(config: DatasetConfig, folder: Path) -> ClassTable:
    """The config's classes, else those of `classes.yaml` or `id2label.json` in a folder.

    Raises:
        ConfigError: neither names any.
        DataError: the file cannot be read.
    """
    rows: Any = config.classes
    if rows is None and (folder / CLASSES_FILE).is_file():
        rows = read_mapping(folder / CLASSES_FILE).get("classes")
    if rows is None and (folder / _NAMES).is_file():
        names = read_json(folder / _NAMES)
        with reading(f"'{folder / _NAMES}'"):
            rows = [names[str(number)] for number in range(len(names))]
    if not rows:
        raise ConfigError(
            f"'{folder}' names no classes: there is no {CLASSES_FILE} and no {_NAMES}. Give them "
            "in the order of their ids, 'dataset.classes=[road,car]'."
        )
    return ClassTable.parse(rows, config.ignore)
