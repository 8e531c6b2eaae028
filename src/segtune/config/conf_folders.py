"""Where the folders of config files lie: the user's and ours."""

import os
from pathlib import Path

from segtune.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]


def shipped(folder: str) -> Path:
    """Our own `conf` or `sweeps`: inside the package when installed from a wheel, else beside `src`."""
    inside = _PACKAGE / folder
    return inside if inside.is_dir() else _PACKAGE.parent.parent / folder


def conf_dirs() -> list[Path]:
    """Config folders, the user's first: `$SEGTUNE_CONF`, else `conf/` in the working folder; then ours.

    An empty SEGTUNE_CONF leaves ours alone.

    Raises:
        ConfigError: SEGTUNE_CONF names no folder.
    """
    own = shipped("conf")
    named = os.environ.get("SEGTUNE_CONF")
    if named == "":
        return [own]
    mine = Path(os.path.expanduser(named or "conf"))
    if not mine.is_dir():
        if named is None:
            return [own]
        what = "is a file" if mine.exists() else "does not exist"
        raise ConfigError(
            f"SEGTUNE_CONF={named} {what}; it names the folder of your own config files. Correct it, or "
            "unset it: then conf/ in the working folder counts."
        )
    return [mine.resolve(), own] if mine.resolve() != own.resolve() else [own]
