"""Build the search space of a sweep file: check its keys, and compose every choice once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segtune.config.aliases import alias_hint
from segtune.config.commands import command
from segtune.config.compose import compose
from segtune.config.conf_files import load_template
from segtune.config.keys import GROUPS
from segtune.config.schema import RunConfig
from segtune.config.template import Template
from segtune.errors import ConfigError, nearest
from segtune.sweeping.choices import DEVICE_KEYS, SHARED_SECTIONS, compose_choices
from segtune.sweeping.dimensions import SweepDimension
from segtune.sweeping.enqueue import resolve_enqueued, resolve_prior
from segtune.sweeping.search_keys import (
    group_dimension,
    hyperparameter_dimensions,
    setting_dimension,
)
from segtune.sweeping.space import Space
from segtune.sweeping.spec import SweepSpec

_SECTIONS = ("seed", "loss", "optimizer", "scheduler", "tuning", "augment", "sampling", "trainer")


def build_space(spec: SweepSpec) -> Space:
    """Return the space of a sweep, after every choice was composed and checked.

    Raises:
        ConfigError: a key is unknown or shared by all trials, a choice does not exist, a range
            leaves the template's, or an enqueued configuration is not in the space.
    """
    for key in spec.search:
        _check_key(spec, key)
    _check_overrides(spec)
    base = compose(spec.base)
    if base.config.trainer.devices > 1:
        raise ConfigError(
            f"sweep '{spec.name}': trainer.devices={base.config.trainer.devices}, but a trial runs "
            "on one device. Set trainer.devices=1, and sweep.workers to the number of trials at a "
            "time."
        )
    names = [base.template.name]
    dimensions = []
    if "template" in spec.search:
        dimensions.append(group_dimension("template", spec.search["template"]))
        names = [str(choice) for choice in dimensions[0].choices or ()]
    templates = [load_template(name) for name in names]
    for key, written in spec.search.items():
        if key != "template":
            dimensions += _dimensions_of_key(spec, key, written, templates)
    space = Space(tuple(spec.overrides), tuple(names), tuple(dimensions))
    compose_choices(spec, space, base.config)
    _check_size(spec, space)
    prior = resolve_prior(spec, space, base)
    return replace(space, enqueued=resolve_enqueued(spec, space, base), prior=prior)


def compose_trial(overrides: list[str], threads: int) -> RunConfig:
    """Return a trial's config with its worker's share of the CPU threads.

    The share does not apply on a GPU, or if the sweep sets the threads.
    """
    config = compose(overrides).config
    if config.trainer.threads is None and config.trainer.accelerator != "gpu":
        trainer = config.trainer.model_copy(update={"threads": threads})
        config = config.model_copy(update={"trainer": trainer})
    return config


def _dimensions_of_key(
    spec: SweepSpec, key: str, written: Any, templates: list[Template]
) -> list[SweepDimension]:
    if key in GROUPS:
        return [group_dimension(key, written)]
    if key.startswith("hp."):
        return hyperparameter_dimensions(key, written, templates)
    if key.split(".")[0] in _SECTIONS:
        return [setting_dimension(key, written)]
    known = ["seed", *(group for group in GROUPS if group not in SHARED_SECTIONS)]
    for template in templates:
        known += [f"hp.{name}" for name in template.hyperparameters]
    similar = nearest(key, known)
    hint = similar if similar.startswith("did you mean") else alias_hint(key) or similar
    raise ConfigError(f"sweep '{spec.name}': search.{key} cannot be searched; {hint}")


def _check_key(spec: SweepSpec, key: str) -> None:
    """Check that a key may differ between the trials of a sweep."""
    if key in DEVICE_KEYS or key.split(".")[0] in SHARED_SECTIONS:
        raise ConfigError(
            f"sweep '{spec.name}': search.{key} cannot be searched; all trials share it, so that "
            "their val mIoU can be compared: the task, the data, the device and the store. Give it "
            "under overrides, and start a sweep for each value (sweep.name=…)."
        )
    written = spec.search[key]
    if key in GROUPS and isinstance(written, Mapping) and set(written) - {"choices"}:
        names = [f"{key}.{name}" for name in written]
        raise ConfigError(
            f"sweep '{spec.name}': search.{key} takes a list of members of conf/{key}/. To search "
            f"its settings, write each with its whole name: {', '.join(names)}."
        )


def _check_overrides(spec: SweepSpec) -> None:
    """Check that no override fixes a searched key: each trial would ignore the override."""
    for text in spec.overrides:
        key = text.lstrip("+~").partition("=")[0]
        if key == "resume":
            raise ConfigError(
                f"sweep '{spec.name}': {text}: a trial begins a run of its own. To continue a "
                f"sweep, start it again: {command('sweep', spec.name)}"
            )
        for searched in spec.search:
            is_below = searched not in GROUPS and key.startswith(f"{searched}.")
            if key == searched or is_below:
                raise ConfigError(
                    f"sweep '{spec.name}': {text} stands under overrides or on the command line, "
                    f"and search.{searched} varies it. Leave one of them out."
                )


def _check_size(spec: SweepSpec, space: Space) -> None:
    """Check that a grid is finite, and that the space holds enough configurations."""
    if spec.sampler == "grid":
        continuous = [d.key for d in space.dimensions if d.values() is None]
        if continuous:
            raise ConfigError(
                f"sweep '{spec.name}': a grid needs a list of choices, or a step, for each search "
                f"key, and {', '.join(continuous)} has neither. Give one, or choose "
                "sweep.sampler=qmc, which covers the space as evenly."
            )
    # after a drift, earlier trials outside of this space count towards n_trials as well
    if spec.n_trials is None or spec.allow_drift:
        return
    size = space.size(at_most=spec.n_trials + 1)
    if size is not None and size < spec.n_trials:
        raise ConfigError(
            f"sweep '{spec.name}': sweep.n_trials={spec.n_trials}, but its space holds {size} "
            f"configurations, and none is trained twice. Set sweep.n_trials={size}, or widen the "
            "space."
        )
