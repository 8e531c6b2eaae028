"""The configurations that a sweep file names under `enqueue:`, to be tried before the sampler proposes any."""

from collections.abc import Mapping
from typing import Any

from segtune.config.compose import Composed, compose
from segtune.errors import ConfigError, nearest
from segtune.sweeping.dimensions import Dimension, literal, value_in
from segtune.sweeping.space import Space
from segtune.sweeping.spec import SweepSpec


def resolve_enqueued(
    spec: SweepSpec, space: Space, base: Composed
) -> tuple[Mapping[str, Any], ...]:
    """The configurations under `enqueue:`, each as {param: value}; what an item leaves out has its default.

    Raises:
        ConfigError: one that the space does not hold, that stands there twice, or more than there are trials.
    """
    rows: list[Mapping[str, Any]] = []
    known: list[list[str]] = []
    for number, item in enumerate(spec.enqueue, start=1):
        where = f"sweep '{spec.name}': enqueue, item {number}"
        values = _values_of(where, spec, space, base, {} if item == "default" else item)
        overrides = space.overrides_of(values)
        if overrides in known:
            raise ConfigError(
                f"{where} is the same configuration as item {known.index(overrides) + 1}. Leave one out."
            )
        compose(overrides)
        rows.append(values)
        known.append(overrides)
    if spec.n_trials is not None and len(rows) > spec.n_trials:
        raise ConfigError(
            f"sweep '{spec.name}': enqueue lists {len(rows)} configurations, and sweep.n_trials={spec.n_trials}. They "
            f"count as trials: set sweep.n_trials={len(rows)} or more."
        )
    return tuple(rows)


def _values_of(
    where: str, spec: SweepSpec, space: Space, base: Composed, item: Mapping[str, Any]
) -> dict[str, Any]:
    """One item as {param: value}."""
    template = str(item.get("template", base.template.name))
    if "template" in spec.search:
        _choose(where, space.dimensions[0], template, given=True)
    counting = space.counting(template)
    for key in item:
        if key not in spec.search:
            raise ConfigError(f"{where}: {key} is not searched; {nearest(key, spec.search)}")
        if key not in {d.key for d in counting}:
            raise ConfigError(
                f"{where}: {key} does not count with template={template}; leave it out."
            )
    defaults = compose(space.base_of(template))
    values = {}
    for dimension in counting:
        given = dimension.key in item
        value = item[dimension.key] if given else value_in(defaults, dimension.key)
        values[dimension.param] = _choose(where, dimension, value, given)
    return values


def _choose(where: str, dimension: Dimension, value: Any, given: bool) -> Any:
    try:
        return dimension.value_like(value)
    except ValueError:
        default = "" if given else " (its default)"
        remedy = "Widen the search, or " + (
            "change the value." if given else f"give {dimension.key} in this item."
        )
        raise ConfigError(
            f"{where}: {dimension.key}={literal(value)}{default} is not in the space, which holds "
            f"{dimension.allowed}. {remedy}"
        ) from None
