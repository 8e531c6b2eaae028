"""Composition by Hydra: the groups under `conf/` as one mapping, with the chosen members.

The folders of the user come before ours. Nothing is ever instantiated from a config.
"""

import functools
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from segtune.config.conf_files import check_user_conf, read_yaml
from segtune.config.conf_folders import conf_dirs
from segtune.config.environment import refuse_secrets
from segtune.config.keys import GROUPS, flatten
from segtune.config.renamed import (
    announce,
    current_key,
    current_references,
    current_tree,
    old_keys,
)
from segtune.errors import ConfigError

_FAULTS = (UnicodeDecodeError, RecursionError, yaml.YAMLError)
ConfState = tuple[tuple[str, int], ...]


def compose_groups(overrides: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """Compose the groups; return the unresolved values, and group -> chosen member.

    Args:
        overrides: words that choose members, and deletions.

    Raises:
        ConfigError: a file that Hydra cannot read or compose.
    """
    values, choices = _hydra_compose(overrides, _conf_state())
    refuse_secrets(values, " and ".join(str(folder) for folder in conf_dirs()))
    announce(old_keys(values))
    return current_references(current_tree(values)), dict(choices)


def _conf_state() -> ConfState:
    """Return every config file with its time of change: a composition depends on them."""
    files = []
    for folder in conf_dirs():
        files += [(str(p), p.stat().st_mtime_ns) for p in folder.rglob("*.yaml")]
    return tuple(sorted(files))


@functools.lru_cache(maxsize=64)  # the trials of a sweep differ in values, which are set afterwards
def _hydra_compose(
    overrides: tuple[str, ...], state: ConfState
) -> tuple[dict[str, Any], dict[str, str]]:
    """Compose without Hydra's global state.

    That state belongs to the application that calls segtune; `hydra.initialize` would clear it.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    check_user_conf()
    Plugins.instance()  # registers the configs that Hydra's own defaults name
    loader = ConfigLoaderImpl(_search_path())
    try:
        with _version_base():
            composed = loader.load_configuration("config", list(overrides), RunMode.RUN)
        choices = {g: str(c) for g, c in composed.hydra.runtime.choices.items() if g in GROUPS}
        values = OmegaConf.to_container(composed, resolve=False)
    except (*_FAULTS, HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split("Config search path")[0].split())
        folders = " and ".join(str(folder) for folder in conf_dirs())
        raise ConfigError(f"{reason} (in {folders})") from None
    assert isinstance(values, dict)
    values.pop("hydra")
    return typing.cast(dict[str, Any], values), choices


def _search_path() -> Any:
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl

    search = ConfigSearchPathImpl()
    search.append("hydra", "pkg://hydra.conf")
    for folder in conf_dirs():
        search.append("main", f"file://{folder}")
    search.append("schema", "structured://")
    return search


@contextmanager
def _version_base() -> Iterator[None]:
    """Take Hydra's behaviour of version 1.3, whichever one the calling application chose."""
    from hydra import version

    chosen = version.VersionBase.instance().version_base
    version.setbase("1.3")
    try:
        yield
    finally:
        version.VersionBase.instance().version_base = chosen


def key_files(choices: Mapping[str, str]) -> dict[str, str]:
    """Return dotted key -> name of the config file that sets it, such as `hp/quick.yaml`."""
    files: dict[str, str] = {}
    for name, group, path in _composed_files(choices):
        tree = {k: v for k, v in read_yaml(path).items() if k != "defaults"}
        is_global = not group or "@package _global_" in path.read_text(encoding="utf-8")[:512]
        for key, value in flatten(tree if is_global else {group: tree}):
            if value != {}:
                files[current_key(key)] = name
    return files


def _composed_files(choices: Mapping[str, str]) -> Iterator[tuple[str, str, Path]]:
    """Yield (name, group, path) of each composed file; a later file overrides an earlier one."""
    order = [g for g in choices if g not in ("template", "hp")] + ["template", "hp"]
    names = [(g, f"{g}/{choices[g]}.yaml") for g in order if g in choices]
    for group, name in [*names, ("", "config.yaml")]:
        paths = [folder / name for folder in conf_dirs()]
        path = next((p for p in paths if p.is_file()), None)
        if path is not None:
            yield name, group, path
