"""Where a dataset should be: looked at before anything is loaded, downloaded or written."""

import difflib
from pathlib import Path

from segtune.config.commands import command
from segtune.config.dataset_schema import CLASSES_FILE, DatasetConfig
from segtune.errors import ConfigError, DataError


def root_of(config: DatasetConfig) -> Path:
    """The absolute root of a dataset that lies in a folder of the user's.

    Raises:
        DataError: it is not set, or does not exist and cannot be downloaded; names the nearest folder that exists.
    """
    if not config.root:
        raise DataError(
            f"dataset '{config.name}': dataset.root is not set; give the folder that holds images/ and masks/."
        )
    root = Path(config.root).expanduser().absolute()
    if not root.exists() and config.download is None:
        raise DataError(
            f"dataset '{config.name}': dataset.root '{root}' does not exist. {_nearest_place(root)} "
            "Give the folder that holds its images and masks."
        )
    return root


def check_place(config: DatasetConfig) -> None:
    """Refuses a dataset that cannot be there, at no cost.

    Raises:
        DataError: see `root_of`.
        ConfigError: image/mask folders whose classes are stated nowhere.
    """
    if config.source == "street":
        return
    root = root_of(config)
    has_fixes = isinstance(config.fixes, str) or (
        config.fixes is not None and config.fixes.classes is not None
    )
    stated = config.classes is not None or config.table is not None or has_fixes
    if (
        config.source == "folder"
        and config.download is None
        and not stated
        and not (root / CLASSES_FILE).is_file()
    ):
        raise no_classes(config, root)


def no_classes(config: DatasetConfig, root: Path) -> ConfigError:
    """For a dataset whose classes are stated nowhere."""
    return ConfigError(
        f"dataset '{config.name}' names no classes: there is no '{root / CLASSES_FILE}'. Give them in the order of the "
        f"mask ids: 'dataset.classes=[road,car]', or import the data: {command('import', 'SOURCE', output='DIR')}"
    )


def _nearest_place(root: Path) -> str:
    """A folder that exists and has nearly the same name, or the last one on the way to it."""
    above = next(p for p in root.parents if p.is_dir())
    wanted = root.relative_to(above).parts
    try:
        folders = {
            p.name.casefold(): p
            for p in above.iterdir()
            if p.is_dir() or (p.is_file() and len(wanted) == 1)
        }
    except OSError:
        folders = {}
    close = difflib.get_close_matches(wanted[0].casefold(), folders, n=1, cutoff=0.6)
    if not close:
        return f"'{above}' does, and holds no '{wanted[0]}'."
    return f"Did you mean '{folders[close[0]].joinpath(*wanted[1:])}'?"
