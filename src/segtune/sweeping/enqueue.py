"""The configurations under `enqueue:` in a sweep file, which are tried first."""

from collections.abc import Mapping
from typing import Any

from segtune.config.compose import Composed, compose
from segtune.errors import ConfigError, nearest
from segtune.sweeping.dimensions import SweepDimension, value_in
from segtune.sweeping.engine.dimensions import literal
from segtune.sweeping.engine.prior import Prior
from segtune.sweeping.space import Space
from segtune.sweeping.spec import SweepSpec


def resolve_enqueued(
    spec: SweepSpec, space: Space, base: Composed
) -> tuple[Mapping[str, Any], ...]:
    """Return the enqueued configurations, each as {param: value}.

    A key that an item leaves out has its default.

    Raises:
        ConfigError: an item is not in the space or appears twice, or there are fewer trials.
    """
    configurations: list[Mapping[str, Any]] = []
    earlier: list[list[str]] = []
    for number, item in enumerate(spec.enqueue, start=1):
        where = f"sweep '{spec.name}': enqueue, item {number}"
        values = _values_of(where, spec, space, base, {} if item == "default" else item)
        overrides = space.overrides_of(values)
        if overrides in earlier:
            same = earlier.index(overrides) + 1
            raise ConfigError(f"{where} is the same configuration as item {same}. Leave one out.")
        compose(overrides)
        configurations.append(values)
        earlier.append(overrides)
    centre = _centre_first(spec, space, base, earlier)
    count = len(centre) + len(configurations)
    with_centre = " with the prior's centre" if centre else ""
    if spec.n_trials is not None and count > spec.n_trials:
        raise ConfigError(
            f"sweep '{spec.name}': enqueue lists {count} configurations{with_centre}, and "
            f"sweep.n_trials={spec.n_trials}. They count as trials: set sweep.n_trials={count} or "
            "more."
        )
    return (*centre, *configurations)


def _centre_first(
    spec: SweepSpec, space: Space, base: Composed, enqueued: list[list[str]]
) -> list[Mapping[str, Any]]:
    """Return the prior's centre, unless it is enqueued anyway."""
    if spec.prior is None:
        return []
    item = {} if spec.prior == "defaults" else spec.prior
    centre = _values_of(f"sweep '{spec.name}': prior", spec, space, base, item)
    return [] if space.overrides_of(centre) in enqueued else [centre]


def resolve_prior(spec: SweepSpec, space: Space, base: Composed) -> Prior | None:
    """Return the prior of a sweep; None if it has none.

    A key whose range differs between templates has a centre for each of them.

    Raises:
        ConfigError: its centre is not in the space.
    """
    if spec.prior is None:
        return None
    item = {} if spec.prior == "defaults" else spec.prior
    where = f"sweep '{spec.name}': prior"
    centre = _values_of(where, spec, space, base, item)
    for template in space.templates:
        if "template" in spec.search:
            known = {dimension.key for dimension in space.dimensions_of(template)}
            values = {key: value for key, value in item.items() if key in known}
            values["template"] = template
            centre = _values_of(where, spec, space, base, values) | centre
    recorded = {d.param: d.as_param(centre[d.param]) for d in space.dimensions}
    return Prior(recorded, spec.prior_confidence)


def _values_of(
    where: str, spec: SweepSpec, space: Space, base: Composed, item: Mapping[str, Any]
) -> dict[str, Any]:
    """Return one item as {param: value}."""
    template = str(item.get("template", base.template.name))
    if "template" in spec.search:
        _value_of(where, space.dimensions[0], template, is_default=False)
    dimensions = space.dimensions_of(template)
    for key in item:
        if key not in spec.search:
            raise ConfigError(f"{where}: {key} is not searched; {nearest(key, spec.search)}")
        if key not in {dimension.key for dimension in dimensions}:
            raise ConfigError(
                f"{where}: {key} does not apply to template={template}; leave it out."
            )
    defaults = compose(space.base_of(template))
    values = {}
    for dimension in dimensions:
        is_default = dimension.key not in item
        value = value_in(defaults, dimension.key) if is_default else item[dimension.key]
        values[dimension.param] = _value_of(where, dimension, value, is_default)
    return values


def _value_of(where: str, dimension: SweepDimension, written: Any, is_default: bool) -> Any:
    try:
        return dimension.value_like(written)
    except ValueError:
        origin = " (its default)" if is_default else ""
        remedy = f"give {dimension.key} in this item" if is_default else "change the value"
        raise ConfigError(
            f"{where}: {dimension.key}={literal(written)}{origin} is not in the space, which holds "
            f"{dimension.allowed}. Widen the search, or {remedy}."
        ) from None
