"""The space of a sweep file: its keys are checked, and each corner of it is composed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segtune.config.aliases import alias_hint
from segtune.config.commands import command
from segtune.config.compose import Composed, compose
from segtune.config.conf_files import load_template
from segtune.config.keys import GROUPS
from segtune.config.schema import RunConfig
from segtune.errors import ConfigError, nearest
from segtune.sweeping.dimensions import Dimension, literal, value_in
from segtune.sweeping.enqueue import resolve_enqueued
from segtune.sweeping.search_keys import (
    group_dimension,
    hyperparameter_dimensions,
    setting_dimension,
)
from segtune.sweeping.space import Space
from segtune.sweeping.spec import SweepSpec

_SECTIONS = ("seed", "loss", "optimizer", "scheduler", "tuning", "augment", "sampling", "trainer")
_SHARED = ("dataset", "kind", "labeler", "tracking", "cache", "resume")
_DEVICES = ("trainer.devices", "trainer.accelerator", "trainer.strategy")


def build_space(spec: SweepSpec) -> Space:
    """The space of a sweep, after each corner of it was composed and checked.

    Raises:
        ConfigError: an unknown key, group member or hyperparameter, a range outside of the template's, a key that all
            trials share, or an enqueued configuration outside of the space.
    """
    for key in spec.search:
        _check_key(spec, key)
    _check_overrides(spec)
    base = compose(spec.base)
    if base.config.trainer.devices > 1:
        raise ConfigError(
            f"sweep '{spec.name}': trainer.devices={base.config.trainer.devices}, but a trial runs on one device. "
            "Set trainer.devices=1, and sweep.workers for how many trials run at once."
        )
    names = [base.template.name]
    dimensions = []
    if "template" in spec.search:
        dimensions.append(group_dimension("template", spec.search["template"]))
        names = [str(c) for c in dimensions[0].choices or ()]
    templates = [load_template(n) for n in names]
    for key, given in spec.search.items():
        if key == "template":
            continue
        if key in GROUPS:
            dimensions.append(group_dimension(key, given))
        elif key.startswith("hp."):
            dimensions.extend(hyperparameter_dimensions(key, given, templates))
        elif key.split(".")[0] in _SECTIONS:
            dimensions.append(setting_dimension(key, given))
        else:
            known = [
                *(g for g in GROUPS if g not in _SHARED),
                "seed",
                *(f"hp.{h}" for t in templates for h in t.hyperparameters),
            ]
            close = nearest(key, known)
            hint = close if close.startswith("did you mean") else alias_hint(key) or close
            raise ConfigError(f"sweep '{spec.name}': search.{key} cannot be searched; {hint}")
    space = Space(tuple(spec.overrides), tuple(names), tuple(dimensions))
    _compose_corners(spec, space, base.config)
    _check_size(spec, space)
    return replace(space, enqueued=resolve_enqueued(spec, space, base))


def _check_overrides(spec: SweepSpec) -> None:
    """That no override fixes what the search varies: each trial would ignore it."""
    for text in spec.overrides:
        key = text.lstrip("+~").partition("=")[0]
        if key == "resume":
            raise ConfigError(
                f"sweep '{spec.name}': {text}: a trial begins a run of its own. To go on with a sweep, start it again: "
                f"{command('sweep', spec.name)}"
            )
        for searched in spec.search:
            if key == searched or (searched not in GROUPS and key.startswith(f"{searched}.")):
                raise ConfigError(
                    f"sweep '{spec.name}': {text} stands under overrides or on the command line, and search.{searched} "
                    "varies it. Leave one of them out."
                )


def _check_key(spec: SweepSpec, key: str) -> None:
    """That a key may differ between the trials of a sweep."""
    if key in _DEVICES or key.split(".")[0] in _SHARED:
        raise ConfigError(
            f"sweep '{spec.name}': search.{key} cannot be searched; all trials share it, so that their val mIoU can be "
            "compared: the task, the data, the device and the store. Give it under overrides, and start a sweep for "
            "each value (sweep.name=…)."
        )
    if (
        key in GROUPS
        and isinstance(spec.search[key], Mapping)
        and set(spec.search[key]) - {"choices"}
    ):
        names = [f"{key}.{name}" for name in spec.search[key]]
        raise ConfigError(
            f"sweep '{spec.name}': search.{key} takes a list of members of conf/{key}/. To search its settings, write "
            f"each with its whole name: {', '.join(names)}."
        )


def _check_size(spec: SweepSpec, space: Space) -> None:
    if spec.sampler == "grid":
        endless = [d.key for d in space.dimensions if d.values() is None]
        if endless:
            raise ConfigError(
                f"sweep '{spec.name}': a grid needs a list of choices, or a step, for each search key, and "
                f"{', '.join(endless)} has neither. Give one, or choose sweep.sampler=qmc, which spreads out as evenly."
            )
    size = space.size(at_most=(spec.n_trials or 0) + 1)
    # after a drift, trials outside of the new space count as well
    if (
        spec.n_trials is not None
        and size is not None
        and size < spec.n_trials
        and not spec.allow_drift
    ):
        raise ConfigError(
            f"sweep '{spec.name}': sweep.n_trials={spec.n_trials}, but its space holds {size} configurations, and none "
            f"is trained twice. Set sweep.n_trials={size}, or widen the space."
        )


def compose_trial(overrides: list[str], threads: int) -> RunConfig:
    """The trial's config, with its worker's share of the CPU threads unless the sweep sets them."""
    config = compose(overrides).config
    if config.trainer.threads is None and config.trainer.accelerator != "gpu":
        trainer = config.trainer.model_copy(update={"threads": threads})
        config = config.model_copy(update={"trainer": trainer})
    return config


def _compose_corners(spec: SweepSpec, space: Space, base: RunConfig) -> None:
    """Composes every choice once: what a trial could ask for must exist before the first one starts."""
    for template in space.templates:
        overrides = space.base_of(template)
        _check_shared(
            spec, f"template={template}", base, _compose_choice(spec, overrides, "template").config
        )
        for dimension in space.counting(template):
            if dimension.key == "template":
                _check_distinct(dimension, list(dimension.choices or ()))
                continue
            composed = []
            for value in (
                dimension.choices
                if dimension.choices is not None
                else (dimension.low, dimension.high)
            ):
                word = f"{dimension.key}={literal(value)}"
                corner = _compose_choice(spec, [*overrides, word], dimension.key)
                _check_shared(spec, word, base, corner.config)
                composed.append(value_in(corner, dimension.key))
                _check_meaning(dimension, value, composed[-1])
            if dimension.choices is not None:
                _check_distinct(dimension, composed)


def _compose_choice(spec: SweepSpec, overrides: list[str], key: str) -> Composed:
    try:
        return compose(overrides)
    except ConfigError as error:
        where = f"search.{key}" if key in spec.search else "overrides"
        raise ConfigError(f"sweep '{spec.name}': {where}: {error}") from None


def _check_shared(spec: SweepSpec, word: str, base: RunConfig, corner: RunConfig) -> None:
    """That a choice leaves the data, the task and the device as they are."""
    trainer, trainer_there = base.trainer, corner.trainer
    pairs = {name: (getattr(base, name), getattr(corner, name)) for name in _SHARED}
    pairs |= {
        key: (getattr(trainer, n), getattr(trainer_there, n))
        for key in _DEVICES
        for n in [key.split(".")[1]]
    }
    for key, (here, there) in pairs.items():
        if here != there:
            raise ConfigError(
                f"sweep '{spec.name}': {word} cannot be searched; it changes {key}, and all trials share that. Give it "
                "under overrides, and start a sweep for each value (sweep.name=…)."
            )


def _check_meaning(dimension: Dimension, value: Any, composed: Any) -> None:
    """That a choice is what the trial gets: neither read as something else, nor merged with what was there."""
    if isinstance(value, bool) and not isinstance(composed, bool):
        raise ConfigError(
            f"search.{dimension.key}: {literal(value)} is read as {composed}; write the value itself."
        )
    if isinstance(value, Mapping) and value != composed:
        raise ConfigError(
            f"search.{dimension.key}: {literal(value)} is added to the values from before, which gives "
            f"{literal(composed)}. Search {', '.join(f'{dimension.key}.{k}' for k in value)}, or a config group."
        )


def _check_distinct(dimension: Dimension, values: list[Any]) -> None:
    """That no choice stands twice, in whatever form; none is trained twice."""
    texts = [str(c) for c in dimension.choices or ()]
    for n, value in enumerate(values):
        if value in values[:n] or texts[n] in texts[:n]:
            raise ConfigError(
                f"search.{dimension.key}: {literal(value)} stands there twice, and no configuration is trained twice. "
                "Leave one out; to repeat a configuration, search seed: [0, 1, 2]."
            )
