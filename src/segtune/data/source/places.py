"""Check where a dataset lies, before anything is loaded, downloaded or written."""

import difflib
from pathlib import Path

from segtune.config.commands import command
from segtune.config.dataset_schema import CLASSES_FILE, DatasetConfig
from segtune.errors import ConfigError, DataError


def root_of(config: DatasetConfig) -> Path:
    """The absolute root of a dataset in a folder of the user.

    Raises:
        DataError: the root is not set, or does not exist and cannot be downloaded; the message
            names the nearest folder that exists.
    """
    if not config.root:
        raise DataError(
            f"dataset '{config.name}': dataset.root is not set; "
            "give the folder that holds images/ and masks/."
        )
    root = Path(config.root).expanduser().absolute()
    if not root.exists() and config.download is None:
        raise DataError(
            f"dataset '{config.name}': dataset.root '{root}' does not exist. "
            f"{_nearest_place(root)} Give the folder that holds its images and masks."
        )
    return root


def check_place(config: DatasetConfig) -> None:
    """Refuse a dataset that does not exist or has no classes; reads no file.

    Raises:
        DataError: see `root_of`.
        ConfigError: the dataset is folders of images and masks without a class table.
    """
    if config.source == "street":
        return
    root = root_of(config)
    if config.source != "folder" or config.download is not None:
        return
    has_classes_file = (root / CLASSES_FILE).is_file()
    if not (has_classes_file or _states_classes(config)):
        raise no_classes(config, root)


def _states_classes(config: DatasetConfig) -> bool:
    """Whether the config or its fixes have a class table; a file of fixes is not read."""
    if config.classes is not None or config.table is not None or isinstance(config.fixes, str):
        return True
    return config.fixes is not None and config.fixes.classes is not None


def no_classes(config: DatasetConfig, root: Path) -> ConfigError:
    """The error for a dataset without a class table."""
    return ConfigError(
        f"dataset '{config.name}' names no classes: there is no '{root / CLASSES_FILE}'. Give them "
        "in the order of the mask ids: 'dataset.classes=[road,car]', or import the data: "
        f"{command('import', 'SOURCE', output='DIR')}"
    )


def _nearest_place(root: Path) -> str:
    """A hint: an existing folder of nearly the same name, else the nearest parent that exists."""
    parent = next(path for path in root.parents if path.is_dir())
    missing = root.relative_to(parent).parts
    places = {}
    try:
        for path in parent.iterdir():
            if path.is_dir() or (path.is_file() and len(missing) == 1):
                places[path.name.casefold()] = path
    except OSError:
        pass  # a folder that cannot be listed gives no hint
    close = difflib.get_close_matches(missing[0].casefold(), places, n=1, cutoff=0.6)
    if not close:
        return f"'{parent}' does, and holds no '{missing[0]}'."
    return f"Did you mean '{places[close[0]].joinpath(*missing[1:])}'?"
