"""The registered parts that a config names: their options are checked, their plugins recorded."""

from collections.abc import Iterator

from segtune.config.part_options import checked_options
from segtune.config.schema import RunConfig
from segtune.errors import ConfigError, nearest
from segtune.plugins.registry import Part, find


def with_checked_parts(config: RunConfig) -> RunConfig:
    """Return a config with the options of its plugins' parts complete, and the plugins on record.

    Raises:
        ConfigError: no such part, or an option that it does not take.
    """
    config = config.model_copy(update={"loss": _checked_loss(config)})
    plugins = {}
    for part in _used_parts(config):
        if part.plugin is not None:
            plugins[part.key] = part.plugin.to_json()
    return config.model_copy(update={"plugins": plugins})


def _used_parts(config: RunConfig) -> Iterator[Part]:
    if config.kind == "segmenter":
        yield find("architecture", str(config.template["model"].get("architecture", "")))
    for name in config.loss.terms:
        yield find("loss", name)


def _checked_loss(config: RunConfig) -> object:
    loss = config.loss
    for name in loss.options:
        if name not in loss.terms:
            raise ConfigError(
                f"loss.options.{name}: the terms name no such loss; {nearest(name, loss.terms)}"
            )
    options = {}
    for name in loss.terms:
        part, given = find("loss", name, "loss.terms"), loss.options.get(name, {})
        if part.plugin is not None or given:
            options[name] = checked_options(part, given, f"loss.options.{name}")
    return loss.model_copy(
        update={"options": {n: values for n, values in options.items() if values}}
    )
