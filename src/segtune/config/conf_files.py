"""The files of `conf/`, ours and the user's: members by name, and their content."""

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from segtune.config.conf_folders import conf_dirs, shipped
from segtune.config.environment import refuse_secrets
from segtune.config.keys import GROUPS, parse_settings
from segtune.config.plugin_templates import plugin_templates
from segtune.config.renamed import announce, current_tree, old_keys
from segtune.config.schema import GateConfig, RunConfig
from segtune.config.template import Template, parse_template
from segtune.config.words import assign, assignments
from segtune.config.yaml_size import check_yaml_size
from segtune.errors import ConfigError, nearest

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def check_user_conf() -> None:
    """Check that the user's folder belongs to segtune, not to another Hydra project.

    Raises:
        ConfigError: its config.yaml chooses other groups, or a file begins with a byte order mark.
    """
    for folder in conf_dirs()[:-1]:
        root_file = folder / "config.yaml"
        paths = [root_file] if root_file.is_file() else []
        for group in GROUPS:
            paths += (folder / group).glob("*.yaml")
        for path in filter(Path.is_file, paths):
            if _first_bytes(path) == _BYTE_ORDER_MARK:
                raise ConfigError(
                    f"{path} begins with a byte order mark: save it as UTF-8 without one."
                )
            check_yaml_size(path)
        if root_file.is_file():
            _check_root_file(root_file)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(3)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _check_root_file(path: Path) -> None:
    data = read_yaml(path)
    _refuse_searchpath(path, data)
    groups: set[str] = set()
    for entry in data.get("defaults") or []:
        if isinstance(entry, dict):
            groups |= {_group_name(str(key)) for key in entry}
    keys = set(data) - {"defaults"} - set(RunConfig.model_fields)
    foreign = [n for n in sorted(keys | (groups - set(GROUPS))) if not n.startswith("hydra")]
    missing = [g for g in GROUPS if g not in groups]
    if not foreign and not missing:
        return
    fault = f"leaves out {', '.join(missing[:4])} in its defaults"
    if foreign:
        fault = f"names {', '.join(map(str, foreign[:4]))}, which segtune does not know"
    raise ConfigError(
        f"{path} is read in place of segtune's own config.yaml, and {fault}. If it belongs to "
        "another project, set SEGTUNE_CONF=FOLDER to your segtune configs, or SEGTUNE_CONF= "
        f"(empty) for none. If it is yours, give it all groups of {shipped('conf')}/config.yaml."
    )


def _refuse_searchpath(path: Path, data: dict[str, Any]) -> None:
    """Refuse more folders of configs: a package among them would be imported, which runs its code.

    Raises:
        ConfigError: the file extends Hydra's search path.
    """
    hydra = data.get("hydra")
    if any(str(key).startswith("hydra.") for key in data) or (
        isinstance(hydra, dict) and "searchpath" in hydra
    ):
        raise ConfigError(
            f"{path}: hydra.searchpath is not allowed in a conf folder. Put the files into this "
            "folder, or set SEGTUNE_CONF=FOLDER to the folder that holds them."
        )


def _group_name(entry: str) -> str:
    """Return the group of an entry in a defaults list, such as `override /loss@_here_`."""
    return entry.removeprefix("override ").split("@")[0].strip("/ ")


def members(group: str) -> list[str]:
    """Return the names of a group's members in all config folders, and templates of plugins."""
    names: set[str] = set()
    for folder in conf_dirs():
        names |= {path.stem for path in (folder / group).glob("*.yaml")}
    if group == "template":
        names |= set(plugin_templates())
    return sorted(names)


def member_file(group: str, name: str) -> Path:
    """Return the file of a member, the user's before ours.

    Raises:
        ConfigError: no such member; names the nearest one.
    """
    for folder in conf_dirs():
        path = folder / group / f"{name}.yaml"
        if path.name == f"{name}.yaml" and path.is_file():  # a name with `/` would be a path
            return path
    raise ConfigError(f"{group}={name}: no such {group}; {nearest(name, members(group))}")


def load_template(name: str) -> Template:
    """Read the declaration of a template; the user's file comes before ours.

    Raises:
        ConfigError: no such template (with the nearest name), or a faulty declaration.
    """
    raw = template_without_file(name) or read_yaml(member_file("template", name))
    return parse_template(raw.get("template", raw))


def template_without_file(name: str) -> dict[str, Any] | None:
    """Return the template of a plugin's architecture, if no file of that name replaces it."""
    if any((folder / "template" / f"{name}.yaml").is_file() for folder in conf_dirs()):
        return None
    return plugin_templates().get(name)


def load_gate(overrides: Sequence[str] = ()) -> GateConfig:
    """Read the promotion gate.

    `gate=NAME` chooses a file of `conf/gate/`, `gate.KEY=VALUE` changes a rule.

    Raises:
        ConfigError: an unknown member, rule or value.
    """
    name = "default"
    for word in assignments(GateConfig, overrides, prefix="gate"):
        if not word.path:
            name = str(word.value)
    return parse_settings(GateConfig, load_member("gate", name, overrides, GateConfig), "gate")


def load_member(
    group: str, name: str, overrides: Sequence[str] = (), model: type[typing.Any] | None = None
) -> dict[str, Any]:
    """Read a file of `conf/GROUP/` that belongs to no run, and apply `GROUP.KEY=VALUE` overrides.

    Args:
        model: settings of the file; they say which keys take text as it is.

    Raises:
        ConfigError: no such member (with the nearest name), or an override that cannot be read.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = member_file(group, name)
    words = [w for w in assignments(model, overrides, prefix=group) if w.path]
    try:
        content = _current_member(group, path)
        refuse_secrets(content, str(path))
        values = OmegaConf.create(content)
        for word in words:  # keys may go through lists: edits.0.camera.height
            assign(values, word)
        return typing.cast(dict[str, Any], OmegaConf.to_container(values, resolve=True))
    except (OmegaConfBaseException, yaml.YAMLError, IndexError) as error:
        overrides_text = " ".join(w.text for w in words)
        raise ConfigError(
            f"{group}={name}: {overrides_text}: {str(error).splitlines()[0]}"
        ) from None


def _current_member(group: str, path: Path) -> dict[str, Any]:
    """Return the keys of a member's file under their present names."""
    tree = {group: read_yaml(path)}
    announce(old_keys(tree))
    return typing.cast(dict[str, Any], current_tree(tree)[group])


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: unreadable, not YAML, or not a mapping.
    """
    from omegaconf import OmegaConf  # it reads 1e-5 as a number, as composition does
    from omegaconf.errors import OmegaConfBaseException

    try:
        check_yaml_size(path)
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"{path} holds a {type(loaded).__name__}; a mapping of keys to values is expected."
        )
    return typing.cast(dict[str, Any], loaded)
