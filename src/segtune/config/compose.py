"""Composition: overrides in, one checked `RunConfig` out, with the origin of every value.

Hydra composes the groups under `conf/` (a user's own `conf/` beside their data extends or overrides ours); nothing is
ever instantiated from a config: the rooms build from their own tables of names.
"""

import functools
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import yaml

from segtune.config.commands import chosen_dataset, command
from segtune.config.conf_files import check_user_conf, load_template, members, read_yaml
from segtune.config.conf_folders import conf_dirs
from segtune.config.keys import GROUPS, TextKind, check_key, flatten, text_kind, validate
from segtune.config.quoting import unquoted
from segtune.config.renamed import (
    announce,
    current_key,
    current_references,
    current_tree,
    keys_of,
    old_keys,
)
from segtune.config.schema import RunConfig
from segtune.config.template import Template, parse_template
from segtune.config.words import Word, assign, read_value, split_word
from segtune.errors import ConfigError, nearest


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


def compose(overrides: Sequence[str] = ()) -> Composed:
    """Composes and checks one run from overrides such as `template=unet` or `hp.num_epochs=5`.

    Keys that hold text take the rest of the word as it is; all others are read in Hydra's syntax.

    Raises:
        ConfigError: an unknown group, member, key or hyperparameter (with the nearest name), a wrong type or range.
    """
    announce(keys_of(overrides))
    groups: list[Word] = []
    values: list[Word] = []
    for word in map(split_word, overrides):
        if word.key in GROUPS:
            groups.append(_choice(word))
        else:
            check_key(word.key)
            (groups if word.raw is None else values).append(word)
    raw, choices = _compose_groups(tuple(_for_hydra(w) for w in groups), _conf_state())
    template = parse_template(raw["template"])
    raw = _with_values(
        raw, [replace(w, value=read_value(w, _text_kind(w, template))) for w in values]
    )
    hyperparameters = template.resolve(_resolved_hp(raw, template))
    raw["hp"] = {name: _final(value) for name, value in hyperparameters.items()}
    config = validate(_resolve(raw))
    _check_kind(config, template)
    if config.trainer.minutes and any(w.key == "hp.num_epochs" for w in values):
        raise ConfigError(
            f"hp.num_epochs and trainer.minutes={config.trainer.minutes:g}, which chooses the epochs, cannot be "
            "combined: leave one of them out (trainer.minutes=null takes the time limit away)."
        )
    dataset = config.dataset.chosen_by(chosen_dataset(choices["dataset"], overrides))
    return Composed(
        config.model_copy(update={"dataset": dataset}), template, choices, tuple(overrides)
    )


def _choice(word: Word) -> Word:
    """The member that a word chooses of a group, after it was found to exist."""
    name = unquoted(word.raw or "")
    if name not in members(word.key):
        if "," in name or name.startswith(("choice(", "glob(")):
            raise ConfigError(
                f"{word.text!r} lists several values; a run takes one. To search: {command('sweep', 'NAME')}"
            )
        raise ConfigError(
            f"{word.key}={name}: no such {word.key}; {nearest(name, members(word.key))}"
        )
    return replace(word, value=name)


def _for_hydra(word: Word) -> str:
    return word.text if word.raw is None else f"{word.key}={word.value}"


def _text_kind(word: Word, template: Template) -> TextKind | None:
    """How a key takes text: by the schema, for a hyperparameter by its declaration."""
    if word.path[0] != "hp":
        return text_kind(RunConfig, word.path)
    declared = template.hyperparameters.get(".".join(word.path[1:]))
    return (
        TextKind(optional=True, structured=False)
        if declared is not None and declared.is_text
        else None
    )


def _check_kind(config: RunConfig, template: Template) -> None:
    """That template, kind, the loss and the labeler's section belong together."""
    if "masks" in config.loss.terms and template.model.get("architecture") != "Eomt":
        raise ConfigError(
            f"loss.terms.masks: compares queries, and template={template.name} has none; take eomt."
        )
    if template.kind != config.kind:
        fitting = ", ".join(n for n in members("template") if load_template(n).kind == config.kind)
        raise ConfigError(
            f"template={template.name} makes a {template.kind}, kind={config.kind} asks for another: give "
            f"kind={template.kind}, or one of its templates: {fitting}."
        )
    if (config.labeler is None) == (config.kind == "labeler"):
        raise ConfigError(
            "labeler.concept belongs to kind=labeler: give both, as kind=labeler labeler.concept=car."
        )


def _with_values(raw: dict[str, Any], words: Sequence[Word]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    composed = OmegaConf.create(raw)
    try:
        for word in words:
            assign(composed, word)
        values = OmegaConf.to_container(composed, resolve=False)
    except OmegaConfBaseException as error:
        raise ConfigError(_reason(error)) from None
    return typing.cast(dict[str, Any], values)


def _conf_state() -> tuple[tuple[str, int], ...]:
    """Every config file with its time of change: what a composition depends on."""
    return tuple(
        sorted((str(p), p.stat().st_mtime_ns) for d in conf_dirs() for p in d.rglob("*.yaml"))
    )


@functools.lru_cache(maxsize=64)
def _hydra_compose(
    overrides: tuple[str, ...], state: tuple[tuple[str, int], ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The groups as Hydra composes them; a sweep's trials differ in the values alone.

    Without Hydra's global state, which belongs to the application that calls: `initialize` would clear it.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    check_user_conf()
    Plugins.instance()  # registers the configs that Hydra's own defaults name
    search = ConfigSearchPathImpl()
    search.append("hydra", "pkg://hydra.conf")
    for folder in conf_dirs():
        search.append("main", f"file://{folder}")
    search.append("schema", "structured://")
    try:
        with _version_base():
            composed = ConfigLoaderImpl(search).load_configuration(
                "config", list(overrides), RunMode.RUN
            )
        choices = {g: str(c) for g, c in composed.hydra.runtime.choices.items() if g in GROUPS}
        raw = OmegaConf.to_container(composed, resolve=False)
    except (HydraException, OmegaConfBaseException, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split("Config search path")[0].split())
        raise ConfigError(f"{reason} (in {_conf_names()})") from None
    assert isinstance(raw, dict)
    raw.pop("hydra")
    return typing.cast(dict[str, Any], raw), choices


def _compose_groups(
    overrides: tuple[str, ...], state: tuple[tuple[str, int], ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    raw, choices = _hydra_compose(overrides, state)
    announce(old_keys(raw))
    return current_references(current_tree(raw)), dict(choices)


def _conf_names() -> str:
    return " and ".join(str(folder) for folder in conf_dirs())


@contextmanager
def _version_base() -> Iterator[None]:
    """Hydra's behaviour of version 1.3, whatever the calling application chose for itself."""
    from hydra import version

    before = version.VersionBase.instance().version_base
    version.setbase("1.3")
    try:
        yield
    finally:
        version.VersionBase.instance().version_base = before


def _resolved_hp(raw: Mapping[str, Any], template: Template) -> dict[str, Any]:
    """The chosen hyperparameters, with interpolations such as `${oc.env:EPOCHS}` replaced by their values."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.create(dict(raw))
        resolved = OmegaConf.to_container(config.hp, resolve=True)
        assert isinstance(resolved, dict)
        for name, value in raw["hp"].items():
            declared = template.hyperparameters.get(name)
            interpolated = (
                isinstance(value, str) and "${" in value and isinstance(resolved[name], str)
            )
            if interpolated and declared is not None and not declared.is_text:
                resolved[name] = OmegaConf.create(
                    f"value: {resolved[name]}"
                ).value  # environment variables are text
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(_reason(error)) from None
    return {str(k): v for k, v in resolved.items()}


def _final(value: Any) -> Any:
    """A value that is resolved already, such that it stays as it is."""
    return value.replace("${", "\\${") if isinstance(value, str) else value


def _resolve(raw: dict[str, Any]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        resolved = OmegaConf.to_container(
            OmegaConf.create(raw), resolve=True, throw_on_missing=True
        )
    except MissingMandatoryValue as error:
        raise ConfigError(
            f"{error.full_key} has no value: give it, as {error.full_key}=…"
        ) from None
    except OmegaConfBaseException as error:
        raise ConfigError(_reason(error)) from None
    return typing.cast(dict[str, Any], resolved)


def _reason(error: Any) -> str:
    """OmegaConf's message, with the key that it is about.

    An environment variable that is not set, for one: `${oc.env:NAME,DEFAULT}` would give it a default.
    """
    key = getattr(error, "full_key", None)
    reason = (
        str(error)
        .splitlines()[0]
        .removeprefix("KeyError raised while resolving interpolation: ")
        .strip('"')
    )
    hint = (
        ". Set it, or give a default: ${oc.env:NAME,DEFAULT}."
        if "nvironment variable" in reason
        else ""
    )
    return (f"{key}: " if key else "") + reason + hint


def _origins(
    config: RunConfig, template: Template, choices: Mapping[str, str], overrides: Sequence[str]
) -> dict[str, str]:
    given = {split_word(o).key for o in overrides}
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
        yield (
            name,
            [
                current_key(key)
                for key, value in flatten(tree if is_global else {group: tree})
                if value != {}
            ],
        )
