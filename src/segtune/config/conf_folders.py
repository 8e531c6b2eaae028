"""The folders of config files: the user's and ours."""

import os
from pathlib import Path

from segtune.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]


def shipped(folder: str) -> Path:
    """Return our own folder `conf` or `sweeps`.

    A wheel installs it inside the package; in a checkout it is beside `src`.
    """
    inside = _PACKAGE / folder
    return inside if inside.is_dir() else _PACKAGE.parent.parent / folder


def conf_dirs() -> list[Path]:
    """Return the config folders: the user's first, then ours.

    The user's folder is `$SEGTUNE_CONF`, else `conf/` in the working folder. An empty SEGTUNE_CONF
    means no folder of the user.

    Raises:
        ConfigError: SEGTUNE_CONF names no folder.
    """
    ours = shipped("conf")
    variable = os.environ.get("SEGTUNE_CONF")
    if variable == "":
        return [ours]
    users = Path(os.path.expanduser(variable or "conf"))
    if not users.is_dir():
        if variable is None:
            return [ours]
        fault = "is a file" if users.exists() else "does not exist"
        raise ConfigError(
            f"SEGTUNE_CONF={variable} {fault}; it must name the folder of your own config files. "
            "Correct it, or unset it to use conf/ in the working folder."
        )
    return [users.resolve(), ours] if users.resolve() != ours.resolve() else [ours]
