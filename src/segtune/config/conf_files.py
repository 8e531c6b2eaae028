"""The files of `conf/`, ours and the user's: where they lie, what they hold, and members chosen by name."""

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from segtune.config.conf_folders import conf_dirs, shipped
from segtune.config.keys import GROUPS, parse_settings
from segtune.config.renamed import announce, current_tree, old_keys
from segtune.config.schema import GateConfig, RunConfig
from segtune.config.template import Template, parse_template
from segtune.config.words import assign, assignments
from segtune.errors import ConfigError, nearest

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def check_user_conf() -> None:
    """That the user's folder is one of ours, not of another Hydra project.

    Raises:
        ConfigError: its config.yaml chooses other groups, or a file begins with a byte order mark.
    """
    for folder in conf_dirs()[:-1]:
        for path in (
            folder / "config.yaml",
            *(p for g in GROUPS for p in (folder / g).glob("*.yaml")),
        ):
            if path.is_file() and _first_bytes(path) == _BYTE_ORDER_MARK:
                raise ConfigError(
                    f"{path} begins with a byte order mark: save it as UTF-8 without one."
                )
        if (folder / "config.yaml").is_file():
            _check_root_file(folder / "config.yaml")


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(3)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _check_root_file(path: Path) -> None:
    data = read_yaml(path)
    chosen = set()
    for entry in data.get("defaults") or []:
        if isinstance(entry, dict):
            chosen |= {
                str(key).removeprefix("override ").split("@")[0].strip("/ ") for key in entry
            }
    foreign = sorted(
        (set(data) - {"defaults", "hydra"} - set(RunConfig.model_fields)) | (chosen - set(GROUPS))
    )
    missing = [g for g in GROUPS if g not in chosen]
    foreign = [name for name in foreign if not name.startswith("hydra")]
    if not foreign and not missing:
        return
    what = f"names {', '.join(map(str, foreign[:4]))}, which segtune does not know" if foreign else (
        f"leaves out {', '.join(missing[:4])} in its defaults"
    )  # fmt: skip
    raise ConfigError(
        f"{path} is read in place of segtune's own, and {what}. If it belongs to another project, set "
        "SEGTUNE_CONF=FOLDER to your segtune configs, or SEGTUNE_CONF= (empty) for none; if it is yours, "
        f"give it all groups of {shipped('conf') / 'config.yaml'}."
    )


def members(group: str) -> list[str]:
    """Names that can be chosen for a group, over all config folders."""
    return sorted({p.stem for d in conf_dirs() for p in (d / group).glob("*.yaml")})


def member_file(group: str, name: str) -> Path:
    """The file of a member, the user's before ours.

    Raises:
        ConfigError: no such member, with the nearest name.
    """
    for folder in conf_dirs():
        path = folder / group / f"{name}.yaml"
        if path.name == f"{name}.yaml" and path.is_file():  # a name is no path: no `/` in it
            return path
    raise ConfigError(f"{group}={name}: no such {group}; {nearest(name, members(group))}")


def load_template(name: str) -> Template:
    """A template's declaration by name, read with the same precedence as composition.

    Raises:
        ConfigError: no such template (with the nearest name), or a faulty declaration.
    """
    raw = read_yaml(member_file("template", name))
    return parse_template(raw.get("template", raw))


def load_gate(overrides: Sequence[str] = ()) -> GateConfig:
    """The promotion gate: `gate=NAME` chooses a file of `conf/gate/`, `gate.KEY=VALUE` changes a rule.

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
    """A file of `conf/GROUP/` that is no part of a run's composition, with `GROUP.KEY=VALUE` overrides applied.

    Args:
        model: the settings that the file holds; says which keys take text as it is.

    Raises:
        ConfigError: no such member, with the nearest name, or an override that cannot be read.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = member_file(group, name)
    words = [w for w in assignments(model, overrides, prefix=group) if w.path]
    try:
        values = OmegaConf.create(_current_member(group, path))
        for word in words:  # keys may go through lists: edits.0.camera.height
            assign(values, word)
        return typing.cast(dict[str, Any], OmegaConf.to_container(values, resolve=True))
    except (OmegaConfBaseException, yaml.YAMLError, IndexError) as error:
        given = " ".join(w.text for w in words)
        raise ConfigError(f"{group}={name}: {given}: {str(error).splitlines()[0]}") from None


def _current_member(group: str, path: Path) -> dict[str, Any]:
    """Return the keys of a member's file under their present names."""
    tree = {group: read_yaml(path)}
    announce(old_keys(tree))
    return typing.cast(dict[str, Any], current_tree(tree)[group])


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: unreadable, not YAML, or not a mapping.
    """
    from omegaconf import (
        OmegaConf,
    )  # its resolver-free YAML reads 1e-5 as a number, as composition does

    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"{path}: holds a {type(loaded).__name__}; a mapping of keys to values is expected."
        )
    return typing.cast(dict[str, Any], loaded)
