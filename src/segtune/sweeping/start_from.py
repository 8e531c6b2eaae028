"""The best configurations of earlier sweeps, which a sweep tries first (`start_from:`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.config.compose import compose
from segtune.errors import ConfigError, nearest
from segtune.runtime.log import Log
from segtune.sweeping.dimensions import SweepDimension, value_in
from segtune.sweeping.engine.records import SPEC, counted_trials
from segtune.sweeping.location import sweep_folder
from segtune.sweeping.objectives import of_study
from segtune.sweeping.records import load_study, plain_params
from segtune.sweeping.space import Space
from segtune.sweeping.spec import SweepSpec

BEST_OF_EACH = 3


def with_earlier_best(spec: SweepSpec, space: Space, root: str | Path, say: Log) -> SweepSpec:
    """Return the spec with the best configurations of `start_from` at the end of `enqueue`.

    The best of each sweep come first, then the second ones. A value that this space does not hold
    becomes the default; if it does not hold that either, the configuration is left out. A resumed
    sweep keeps the configurations that it began with.

    Args:
        space: of the sweep.
        root: of the store.

    Raises:
        ConfigError: a sweep was never started, has another objective or no finished trial.
    """
    begun = _recorded(spec, Path(root))
    if begun.get("start_from") == spec.start_from:
        more = [item for item in begun.get("enqueue", []) if item not in spec.enqueue]
        return spec.model_copy(update={"enqueue": [*spec.enqueue, *more]})
    ranked = [_best_of(spec, name, Path(root)) for name in spec.start_from]
    known = {tuple(space.overrides_of(values)) for values in space.enqueued}
    limit = None if spec.n_trials is None else spec.n_trials - len(known)
    items: list[dict[str, Any]] = []
    for place in range(BEST_OF_EACH):
        for trials in ranked:
            item = _as_item(trials[place], space) if place < len(trials) else None
            if item is None or (limit is not None and len(items) >= limit):
                continue
            overrides = tuple(space.overrides_of(item))
            if overrides not in known:
                known.add(overrides)
                items.append({d.key: item[d.param] for d in space.dimensions if d.param in item})
    say(f"sweep {spec.name}: {len(items)} configurations from {', '.join(spec.start_from)}")
    return spec.model_copy(update={"enqueue": [*spec.enqueue, *items]})


def _recorded(spec: SweepSpec, root: Path) -> Mapping[str, Any]:
    """Return the settings with which the sweep was started; empty for a new one."""
    study = load_study(sweep_folder(root, spec.name), spec.name, spec.storage)
    recorded: Mapping[str, Any] = study.user_attrs.get(SPEC, {}) if study else {}
    return recorded


def _best_of(spec: SweepSpec, name: str, root: Path) -> list[FrozenTrial]:
    """Return the best finished trials of an earlier sweep, the best one first."""
    study = load_study(sweep_folder(root, name), name)
    where = f"sweep '{spec.name}': start_from: sweep '{name}'"
    if study is None or name == spec.name:
        folders = sorted(path.name for path in (root / "sweeps").glob("*"))
        others = [folder for folder in folders if folder != spec.name]
        raise ConfigError(f"{where} was never started in '{root}'; {nearest(name, others)}")
    theirs, ours = of_study(study)[0], spec.objectives[0]
    if (theirs.name, theirs.direction) != (ours.name, ours.direction):
        raise ConfigError(
            f"{where} has the objective {theirs.name}, and this one {ours.name}. Leave it out."
        )
    return _ranked(study, where)


def _ranked(study: optuna.Study, where: str) -> list[FrozenTrial]:
    finished = [t for t in counted_trials(study) if t.state == TrialState.COMPLETE and t.values]
    if not finished:
        raise ConfigError(f"{where} has no finished trial. Run it first, or leave it out.")
    sign = -1 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1
    return sorted(finished, key=lambda trial: sign * trial.values[0])[:BEST_OF_EACH]


def _as_item(trial: FrozenTrial, space: Space) -> dict[str, Any] | None:
    """Return a trial's configuration as {param: value} of a space; None if it does not fit."""
    recorded = plain_params(trial)
    template = str(recorded.get("template", space.templates[0]))
    if template not in space.templates:
        return None
    values: dict[str, Any] = {}
    defaults = compose(space.base_of(template))
    for dimension in space.dimensions_of(template):
        try:
            values[dimension.param] = _value_of(dimension, recorded, template)
        except (KeyError, ValueError):
            try:
                default = value_in(defaults, dimension.key)
                values[dimension.param] = dimension.value_like(default)
            except ValueError:
                return None
    return values


def _value_of(dimension: SweepDimension, recorded: Mapping[str, Any], template: str) -> Any:
    """Return the recorded value of a dimension, whichever form the earlier sweep searched it in.

    Raises:
        KeyError: the earlier sweep did not search it.
        ValueError: the dimension does not hold the value.
    """
    if f"{dimension.key}@{template}" in recorded:
        value = recorded[f"{dimension.key}@{template}"]
    elif dimension.key == "template":
        value = template
    else:
        value = recorded[dimension.key]
    if dimension.choices is not None:  # choices are recorded as text
        value = next((c for c in dimension.choices if str(c) == str(value)), value)
    elif isinstance(value, str):
        value = float(value)
    return dimension.value_like(value)
