"""Composition and validation: overrides in, one checked `RunConfig` out, with the origin of every value.

Hydra composes the groups under `conf/` (a user's own `conf/` beside their data extends or overrides ours); nothing is
ever instantiated from a config: the rooms build from their own tables of names.
"""

import functools
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import yaml

from segtune.errors import ConfigError, nearest
from segtune.settings import GateConfig, RunConfig
from segtune.template import Template, parse_template

GROUPS = (
    "kind", "template", "dataset", "hp", "loss", "optimizer", "scheduler", "tuning", "augment", "sampling", "trainer",
    "tracking",
)  # fmt: skip
_FREE = ("template", "hp")  # checked by the template's declaration, not by the schema
_PACKAGE = Path(__file__).parent
_ALTERNATIVE = re.compile(r"literal\[.*\]|constrained-\w+")  # pydantic's names for what a value may be instead


@dataclass(frozen=True)
class Composed:
    """A checked run: the config, its template, and where each value came from.

    Attributes:
        choices: the member that was taken of each group.
        overrides: what the user gave, as given.
    """

    config: RunConfig
    template: Template
    choices: Mapping[str, str]
    overrides: tuple[str, ...]

    @property
    def origins(self) -> dict[str, str]:
        """Dotted key -> `command line`, a file under a conf folder, the template, or `default`."""
        return _origins(self.config, self.template, self.choices, self.overrides)


def shipped(folder: str) -> Path:
    """Our own `conf` or `sweeps`: inside the package when installed from a wheel, beside `src` in a checkout."""
    inside = _PACKAGE / folder
    return inside if inside.is_dir() else _PACKAGE.parent.parent / folder


def conf_dirs() -> list[Path]:
    """Config folders, the user's first: `$SEGTUNE_CONF`, else `conf/` in the working folder; then ours."""
    own = shipped("conf")
    mine = Path(os.environ.get("SEGTUNE_CONF") or "conf")
    return [mine.resolve(), own] if mine.is_dir() and mine.resolve() != own.resolve() else [own]


def members(group: str) -> list[str]:
    """Names that can be chosen for a group, over all config folders."""
    return sorted({p.stem for d in conf_dirs() for p in (d / group).glob("*.yaml")})


def load_template(name: str) -> Template:
    """A template's declaration by name, read with the same precedence as composition.

    Raises:
        ConfigError: no such template (with the nearest name), or a faulty declaration.
    """
    for folder in conf_dirs():
        path = folder / "template" / f"{name}.yaml"
        if path.is_file():
            raw = read_yaml(path)
            return parse_template(raw.get("template", raw))
    raise ConfigError(f"template={name}: no such template; {nearest(name, members('template'))}")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: unreadable, not YAML, or not a mapping.
    """
    from omegaconf import OmegaConf  # its resolver-free YAML reads 1e-5 as a number, as composition does

    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: holds a {type(loaded).__name__}; a mapping of keys to values is expected.")
    return typing.cast(dict[str, Any], loaded)


def compose(overrides: Sequence[str] = ()) -> Composed:
    """Composes and checks one run from Hydra overrides such as `template=unet` or `hp.num_epochs=5`.

    Raises:
        ConfigError: an unknown group, member, key or hyperparameter (with the nearest name), a wrong type or range.
    """
    ready = [_checked_override(o) for o in overrides]
    raw, choices = _hydra_compose(ready)
    template = parse_template(raw["template"])
    raw["hp"] = template.resolve(raw["hp"])
    resolved = _resolve(raw)
    config = validate(resolved)
    _check_kind(config, template)
    if config.trainer.minutes and any(o.lstrip("+").startswith("hp.num_epochs=") for o in ready):
        raise ConfigError(
            f"hp.num_epochs has no say while trainer.minutes={config.trainer.minutes:g} chooses the epochs: leave one "
            "of them out (trainer.minutes=null takes the time limit away)."
        )
    return Composed(config, template, choices, tuple(overrides))


def _check_kind(config: RunConfig, template: Template) -> None:
    """That template, kind, the loss and the labeler's section belong together."""
    if "masks" in config.loss.terms and template.model.get("architecture") != "Eomt":
        raise ConfigError(f"loss.terms.masks: compares queries, and template={template.name} has none; take eomt.")
    if template.kind != config.kind:
        fitting = ", ".join(n for n in members("template") if load_template(n).kind == config.kind)
        raise ConfigError(
            f"template={template.name} makes a {template.kind}, kind={config.kind} asks for another: give "
            f"kind={template.kind}, or one of its templates: {fitting}."
        )
    if (config.labeler is None) == (config.kind == "labeler"):
        raise ConfigError("labeler.concept belongs to kind=labeler: give both, as kind=labeler labeler.concept=car.")


def validate(data: Mapping[str, Any]) -> RunConfig:
    """A `RunConfig` from plain data, such as the config that a run recorded.

    Raises:
        ConfigError: unknown keys, wrong types or values, each with its place and what is allowed.
    """
    return parse_settings(RunConfig, data)


SettingsT = typing.TypeVar("SettingsT", bound=pydantic.BaseModel)


def parse_settings(model: type[SettingsT], data: Mapping[str, Any], where: str = "") -> SettingsT:
    """Data as settings of the given model; `where` names the file in messages.

    Raises:
        ConfigError: every fault of the data, one line each.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        told: dict[str, list[str]] = {}
        for fault in error.errors():
            place = [str(p) for p in fault["loc"]]
            if fault["type"] == "extra_forbidden":
                parent = _schema_at(model, place[:-1])
                nearer = nearest(place[-1], parent.model_fields if parent else [])
                told[f"{'.'.join(place)}: no such key; {nearer}"] = []
            else:
                key = ".".join(p for p in place if not _ALTERNATIVE.fullmatch(p))
                found = "" if fault["type"] == "missing" else f"={fault['input']!r}"
                words = fault["msg"].removeprefix("Value error, ")  # pydantic's own
                told.setdefault(f"{key}{found}: ", []).append(words)
        lines = []
        for key, said in told.items():
            allowed = ", or ".join(dict.fromkeys(said)).replace(", or Input should be ", ", or ")
            lines.append(key + (f"{allowed}." if said else ""))
        prefix = f"{where}: " if where else ""
        raise ConfigError(prefix + "\n".join(lines)) from None


def load_gate(overrides: Sequence[str] = ()) -> GateConfig:
    """The promotion gate: `gate=NAME` chooses a file of `conf/gate/`, `gate.KEY=VALUE` changes a rule.

    Raises:
        ConfigError: an unknown member, rule or value.
    """
    name = dict(o.split("=", 1) for o in overrides).get("gate", "default")
    return parse_settings(GateConfig, load_member("gate", name, overrides), "gate")


def load_member(group: str, name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A file of `conf/GROUP/` that is no part of a run's composition, with `GROUP.KEY=VALUE` overrides applied.

    Raises:
        ConfigError: no such member, with the nearest name, or an override that cannot be read.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    found = [d / group / f"{name}.yaml" for d in conf_dirs() if (d / group / f"{name}.yaml").is_file()]
    if not found:
        raise ConfigError(f"{group}={name}: no such {group}; {nearest(name, members(group))}")
    given = [o.removeprefix(f"{group}.") for o in overrides if o.startswith(f"{group}.")]
    try:
        values = OmegaConf.create(read_yaml(found[0]))
        for key, _, text in (g.partition("=") for g in given):  # keys may go through lists: edits.0.camera.height
            OmegaConf.update(values, key, OmegaConf.from_dotlist([f"value={text}"]).value, force_add=True)
        return typing.cast(dict[str, Any], OmegaConf.to_container(values, resolve=True))
    except (OmegaConfBaseException, yaml.YAMLError, IndexError) as error:
        raise ConfigError(f"{group}={name}: {' '.join(given)}: {str(error).splitlines()[0]}") from None


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings as (dotted key, value).

    >>> list(flatten({"a": {"b": 1}, "c": [2]}))
    [('a.b', 1), ('c', [2])]
    """
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, tree


def _checked_override(text: str) -> str:
    """The override in the form that Hydra accepts, after its key was found to exist."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{text!r} is not key=value, e.g. hp.num_epochs=5: {reason}.") from None
    key = override.key_or_group
    if override.is_sweep_override():
        raise ConfigError(f"{text!r} lists several values; a run takes one. To search values: segtune sweep NAME.")
    if key in GROUPS:
        name = str(override.value())
        if override.is_delete() or name not in members(key):
            raise ConfigError(f"{key}={name}: no such {key}; {nearest(name, members(key))}")
        return f"{key}={name}"
    _check_key(key)
    if override.is_delete():
        return text
    return "++" + text.lstrip("+")


def _check_key(key: str) -> None:
    parts = key.split(".")
    if parts[0] not in RunConfig.model_fields:
        known = [*GROUPS, *_leaf_keys(RunConfig)]
        raise ConfigError(f"{key}: no such key or group; {nearest(key, known)}")
    if parts[0] in _FREE:
        return
    for depth in range(1, len(parts)):
        parent = _schema_at(RunConfig, parts[:depth])
        if parent is None:
            return
        if parts[depth] not in parent.model_fields:
            siblings = {".".join([*parts[:depth], n]) for n in parent.model_fields}
            raise ConfigError(f"{key}: no such key; {nearest(key, siblings)}")


def _leaf_keys(model: type[pydantic.BaseModel], prefix: str = "") -> Iterator[str]:
    for name in model.model_fields:
        below = _schema_at(model, [name])
        if below is None:
            yield prefix + name
        else:
            yield from _leaf_keys(below, f"{prefix}{name}.")


def _schema_at(model: type[pydantic.BaseModel], path: Sequence[str]) -> type[pydantic.BaseModel] | None:
    """The settings class that a path leads to; None where free-form data begins."""
    for part in path:
        field = model.model_fields.get(part)
        kinds = [] if field is None else [field.annotation]
        if kinds and isinstance(kinds[0], types.UnionType):
            kinds = list(typing.get_args(kinds[0]))
        found = [k for k in kinds if isinstance(k, type) and issubclass(k, pydantic.BaseModel)]
        if not found:
            return None
        model = found[0]
    return model


def _hydra_compose(overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The groups as Hydra composes them, then the values; a sweep's trials differ in the values alone."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    groups = tuple(o.input_line or "" for o in parsed if o.key_or_group in GROUPS or o.is_delete())
    raw, choices = _compose_groups(groups, _conf_state())
    composed = OmegaConf.create(raw)
    try:
        for override in parsed:
            if override.input_line not in groups:
                OmegaConf.update(composed, override.key_or_group, override.value(), merge=True, force_add=True)
        values = OmegaConf.to_container(composed, resolve=False)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from None
    return typing.cast(dict[str, Any], values), dict(choices)


def _conf_state() -> tuple[tuple[str, int], ...]:
    """Every config file with its time of change: what a composition depends on."""
    return tuple(sorted((str(p), p.stat().st_mtime_ns) for d in conf_dirs() for p in d.rglob("*.yaml")))


@functools.lru_cache(maxsize=64)
def _compose_groups(
    overrides: tuple[str, ...], state: tuple[tuple[str, int], ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    *mine, own = conf_dirs()
    _put_before_ours(mine)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(own), version_base="1.3"):
            composed = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
        choices = {g: str(c) for g, c in composed.hydra.runtime.choices.items() if g in GROUPS}
        raw = OmegaConf.to_container(composed, resolve=False)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(" ".join(str(error).split("Config search path")[0].split())) from None
    assert isinstance(raw, dict)
    raw.pop("hydra")
    return typing.cast(dict[str, Any], raw), choices


def _put_before_ours(folders: Sequence[Path]) -> None:
    """Lets Hydra search the user's folders before ours; its `hydra.searchpath` only adds behind."""
    from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class UserConf(SearchPathPlugin):
        folders: Sequence[Path] = ()

        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for folder in UserConf.folders:
                search_path.prepend("user", f"file://{folder}", SearchPathQuery("main", None))

    known = [p for p in Plugins.instance().discover(SearchPathPlugin) if p.__name__ == "UserConf"]
    if not known:
        Plugins.instance().register(UserConf)
    (known[0] if known else UserConf).folders = list(folders)  # type: ignore[attr-defined]


def _resolve(raw: dict[str, Any]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        resolved = OmegaConf.to_container(OmegaConf.create(raw), resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} has no value: give it, as {error.full_key}=…") from None
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from None
    return typing.cast(dict[str, Any], resolved)


def _origins(
    config: RunConfig, template: Template, choices: Mapping[str, str], overrides: Sequence[str]
) -> dict[str, str]:
    given = {o.lstrip("+").split("=", 1)[0] for o in overrides}
    files: dict[str, str] = {}
    for source, keys in _files_in_order(choices):
        files.update(dict.fromkeys(keys, source))
    origins = {}
    for key, _ in flatten(config.model_dump()):
        parents = [key.rsplit(".", n)[0] for n in range(key.count(".") + 1)]
        if any(p in given for p in parents if p not in GROUPS):
            origins[key] = "command line"
        elif any(p in files for p in parents):
            origins[key] = next(files[p] for p in parents if p in files)
        else:
            origins[key] = f"template {template.name}" if key.startswith("hp.") else "default"
    return origins


def _files_in_order(choices: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Each composed file's name and the dotted keys that it sets, weakest first."""
    order = [g for g in choices if g not in ("template", "hp")] + ["template", "hp"]
    names = [(g, f"{g}/{choices[g]}.yaml") for g in order if g in choices]
    for group, name in [*names, ("", "config.yaml")]:
        path = next((d / name for d in conf_dirs() if (d / name).is_file()), None)
        if path is None:
            continue
        tree = {k: v for k, v in read_yaml(path).items() if k != "defaults"}
        is_global = not group or "@package _global_" in path.read_text(encoding="utf-8")[:512]
        yield name, [key for key, value in flatten(tree if is_global else {group: tree}) if value != {}]
