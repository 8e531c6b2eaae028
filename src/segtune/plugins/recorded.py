"""Compare the plugins that a run or a segmenter recorded with those that are loaded."""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from segtune.errors import ConfigError
from segtune.plugins.groups import GROUPS
from segtune.plugins.registry import parts
from segtune.runtime.log import to_stderr

_NEEDED = tuple(set(GROUPS) - {"metric"})
"""Groups whose parts a run needs to continue; a metric of a plugin is left out without it."""


def require_plugins(
    recorded: Mapping[str, Mapping[str, Any]], owner: str, groups: Collection[str] = _NEEDED
) -> None:
    """Check that the recorded parts are registered; nothing that the record names is loaded.

    A plugin with another content than the recorded one prints a warning.

    Args:
        recorded: part, as `architecture/TinyNet` -> name, version, sha256 and source of its plugin.
        owner: of the record, for messages, such as "run 3f2a".
        groups: the parts of other groups are not needed.

    Raises:
        ConfigError: a part is missing; the message says how to give its plugin.
    """
    for key, plugin in recorded.items():
        group, _, name = key.partition("/")
        if group not in groups:
            continue
        part = parts(group).get(name) if group in GROUPS else None
        title = f"plugin '{plugin.get('name')}'"
        title += f" {plugin['version']}" if plugin.get("version") else ""
        if part is None:
            raise ConfigError(
                f"{owner} needs the {group} '{name}' of {title}, which is not loaded. "
                f"{_remedy(plugin)}"
            )
        now = part.plugin.sha256 if part.plugin else None
        if now != plugin.get("sha256"):
            _warn(f"{owner}: {title} has changed since it gave the {group} '{name}'")


def _remedy(plugin: Mapping[str, Any]) -> str:
    source = str(plugin.get("source"))
    give = f"plugins={source} on the command line, or SEGTUNE_PLUGINS={source}"
    if source.endswith(".py"):
        return f"If you trust it, give {give}."
    return f"If you trust it: pip install {plugin.get('name')}, and give {give}."


@cache
def _warn(line: str) -> None:
    """Print a warning once per process."""
    to_stderr(line)
