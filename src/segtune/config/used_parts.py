"""The registered parts that a config names: their options are checked, their plugins recorded."""

from typing import Any

from segtune.config.dataset_schema import Settings
from segtune.config.part_options import LISTED, checked_options
from segtune.config.schema import LossConfig, PartOptions, RunConfig
from segtune.errors import ConfigError, nearest
from segtune.plugins.registry import Part, find
from segtune.plugins.registry import parts as registered

_NAMED = ("optimizer", "scheduler")
"""Sections whose key `name` names a part, and whose key `options` holds its options."""


def with_checked_parts(config: RunConfig) -> RunConfig:
    """Return a config with the options of its plugins' parts complete, and the plugins on record.

    Raises:
        ConfigError: no such part, or an option that it does not take.
    """
    parts: list[Part] = []
    sections: dict[str, Settings] = {"loss": _checked_loss(config.loss, parts)}
    for name in _NAMED:
        sections[name] = _checked_section(name, getattr(config, name), parts)
    for key, group in LISTED.items():
        if group == "loss":  # checked above, with its terms
            continue
        section, _, field = key.partition(".")
        options = _checked_parts(key, group, getattr(getattr(config, section), field), parts)
        sections[section] = getattr(config, section).model_copy(update={field: options})
    if config.kind == "segmenter":
        parts.append(find("architecture", str(config.template["model"].get("architecture", ""))))
    parts += registered("metric").values()  # all of them are computed
    plugins = {part.key: part.plugin.to_json() for part in parts if part.plugin is not None}
    return config.model_copy(update={**sections, "plugins": plugins})


def _checked_loss(loss: LossConfig, parts: list[Part]) -> LossConfig:
    for name in loss.options:
        if name not in loss.terms:
            raise ConfigError(
                f"loss.options.{name}: the terms name no such loss; {nearest(name, loss.terms)}"
            )
    options: PartOptions = {}
    for name in loss.terms:
        part, given = find("loss", name, "loss.terms"), loss.options.get(name, {})
        values = _options(part, given, f"loss.options.{name}")
        options |= {name: values} if values else {}
        parts.append(part)
    return loss.model_copy(update={"options": options})


def _checked_section(name: str, section: Any, parts: list[Part]) -> Settings:
    part = find(name, section.name, f"{name}.name")
    parts.append(part)
    options = _options(part, section.options, f"{name}.options")
    checked: Settings = section.model_copy(update={"options": options})
    return checked


def _checked_parts(key: str, group: str, given: PartOptions, parts: list[Part]) -> PartOptions:
    options: PartOptions = {}
    for name, values in given.items():
        part = find(group, name, key)
        options[name] = _options(part, values, f"{key}.{name}")
        parts.append(part)
    return options


def _options(part: Part, given: dict[str, Any], key: str) -> dict[str, Any]:
    """Return checked options; an own part without any is not imported for that."""
    return checked_options(part, given, key) if part.plugin is not None or given else {}
