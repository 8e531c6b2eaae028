"""The search space: typed ranges out of the templates' own declarations, narrowed by the sweep file."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna import Trial

from segtune.config import GROUPS, compose, load_template, members
from segtune.errors import ConfigError, nearest
from segtune.settings import RunConfig
from segtune.sweeping.spec import SweepSpec
from segtune.template import Hyperparameter, Template

_SECTIONS = ("seed", "loss", "optimizer", "scheduler", "tuning", "augment", "sampling", "trainer")
_SHARED = ("trainer.devices", "trainer.accelerator")  # by all trials of a sweep


@dataclass(frozen=True)
class Dimension:
    """One thing that is searched.

    Attributes:
        key: the override key: `hp.width`, a group, or a setting such as `augment.crop_start`.
        param: its name in the study; a template's own range is searched as `hp.width@template`.
        template: the template for which it counts; None for all.
        choices: the values, or None for a numeric range.
    """

    key: str
    param: str
    template: str | None = None
    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 1.0
    step: float | None = None
    log: bool = False
    is_int: bool = False

    def suggest(self, trial: Trial) -> Any:
        """The sampler's proposal."""
        if self.choices is not None:
            names = [str(c) for c in self.choices]
            return self.choices[names.index(trial.suggest_categorical(self.param, names))]
        if self.is_int:
            step = 1 if self.log else int(self.step or 1)
            return trial.suggest_int(self.param, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.param, self.low, self.high, step=None if self.log else self.step, log=self.log)

    def values(self) -> Iterable[Any] | None:
        """Every value that it can take; None where there is no end of them."""
        if self.choices is not None:
            return self.choices
        step = self.step or (1 if self.is_int else None)
        if step is None or (self.log and not self.is_int):
            return None
        if self.log:
            return range(int(self.low), int(self.high) + 1)
        count = int((self.high - self.low) / step + 1e-9) + 1
        values = (self.low + i * step for i in range(count))
        return (int(v) for v in values) if self.is_int else values

    def describe(self) -> str:
        """The dimension as people read it, choices as they would type them.

        >>> Dimension("trainer.ema_decay", "trainer.ema_decay", choices=(None, 0.99)).describe()
        'trainer.ema_decay: null, 0.99'
        """
        only = f" (for {self.template})" if self.template else ""
        if self.choices is not None:
            return f"{self.key}: {', '.join(_literal(c) for c in self.choices)}{only}"
        scale = ", logarithmic" if self.log else f", step {self.step:g}" if self.step else ""
        return f"{self.key}: {self.low:g} to {self.high:g}{scale}{only}"

    def holds(self, value: Any) -> bool:
        """Whether it can take a value."""
        values = self.values()
        return self.low <= value <= self.high if values is None else value in values

    def as_param(self, value: Any) -> Any:
        """A value as the study keeps it."""
        return str(value) if self.choices is not None else value


@dataclass(frozen=True)
class Space:
    """All dimensions of a sweep, and the fixed overrides beside them."""

    fixed: tuple[str, ...]
    templates: tuple[str, ...]
    dimensions: tuple[Dimension, ...]

    def propose(self, trial: Trial) -> list[str]:
        """The overrides of one trial; dimensions of a template that it did not choose are not asked for."""
        return self._overrides(lambda dimension: dimension.suggest(trial))

    def restore(self, trial: Trial, names: Collection[str]) -> None:
        """Records again, in a trial that was enqueued with them, the parameters of these names."""
        for dimension in self.dimensions:
            if dimension.param in names:
                dimension.suggest(trial)

    def changed(self, params: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
        """A trial's parameters with another value of one key; without that key where the space does not hold it."""
        result = dict(params)
        for dimension in self.dimensions:
            if dimension.key == key and result.pop(dimension.param, None) is not None and dimension.holds(value):
                result[dimension.param] = dimension.as_param(value)
        return result

    def untried(self, tried: Collection[tuple[str, ...]]) -> dict[str, Any] | None:
        """Parameters of the first configuration that is not among those tried; None where there is none, or no end."""
        for values in self._configurations():
            if tuple(self._overrides(lambda d: values[d.param])) not in tried:  # noqa: B023 - called at once
                return {d.param: d.as_param(values[d.param]) for d in self.dimensions if d.param in values}
        return None

    def size(self, at_most: int) -> int | None:
        """How many configurations there are, counted no further than `at_most`; None for no end of them."""
        if any(d.values() is None for d in self.dimensions):
            return None
        return sum(1 for _ in itertools.islice(self._configurations(), at_most))

    def _configurations(self) -> Iterator[dict[str, Any]]:
        """Every configuration as {param: value} of the dimensions that count in it; none of a space without end."""
        if any(d.values() is None for d in self.dimensions):
            return
        for template in self.templates:
            counting = [d for d in self.dimensions if d.template in (None, template) and d.key != "template"]
            own = {"template": template} if self._chooses_template else {}
            for row in itertools.product(*(d.values() or () for d in counting)):
                yield own | {d.param: v for d, v in zip(counting, row, strict=True)}

    @property
    def _chooses_template(self) -> bool:
        return any(d.key == "template" for d in self.dimensions)

    def _overrides(self, value_of: Callable[[Dimension], Any]) -> list[str]:
        overrides, template = list(self.fixed), self.templates[0]
        for dimension in self.dimensions:
            if dimension.template in (None, template):
                value = value_of(dimension)
                if dimension.key == "template":
                    template = value
                overrides.append(f"{dimension.key}={_literal(value)}")
        return overrides


def build_space(spec: SweepSpec) -> Space:
    """The space of a sweep, after each corner of it was composed and checked.

    Raises:
        ConfigError: an unknown key, group member or hyperparameter, or a range outside of the template's.
    """
    base = compose(spec.overrides)
    if base.config.trainer.devices > 1:
        raise ConfigError(
            f"sweep '{spec.name}': trainer.devices={base.config.trainer.devices}, but a trial runs on one device. "
            "Set trainer.devices=1, and sweep.workers for how many trials run at once."
        )
    names = [str(t) for t in _as_list("template", spec.search.get("template"), [base.template.name])]
    templates = [load_template(n) for n in names]
    dimensions = []
    if "template" in spec.search:
        dimensions.append(Dimension("template", "template", choices=tuple(names)))
    for key, given in spec.search.items():
        if key == "template":
            continue
        if key in GROUPS:
            dimensions.append(_group(key, given))
        elif key.startswith("hp."):
            dimensions.extend(_hyperparameter(key, given, templates))
        elif key.split(".")[0] in _SECTIONS and key not in _SHARED:
            dimensions.append(_setting(key, given, base.config))
        else:
            known = [*GROUPS, "seed", *(f"hp.{h}" for t in templates for h in t.hyperparameters)]
            hint = "all trials share it: give it under overrides." if key in _SHARED else nearest(key, known)
            raise ConfigError(f"sweep '{spec.name}': search.{key} cannot be searched; {hint}")
    space = Space(tuple(spec.overrides), tuple(names), tuple(dimensions))
    _compose_corners(space)
    _check_size(spec, space)
    return space


def _check_size(spec: SweepSpec, space: Space) -> None:
    if spec.sampler == "grid":
        endless = [d.key for d in space.dimensions if d.values() is None]
        if endless:
            raise ConfigError(
                f"sweep '{spec.name}': a grid needs a list of choices, or a step, for each search key, and "
                f"{', '.join(endless)} has neither. Give one, or choose sweep.sampler=qmc, which spreads out as evenly."
            )
    size = space.size(at_most=(spec.n_trials or 0) + 1)
    if spec.n_trials is not None and size is not None and size < spec.n_trials:
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


def _group(key: str, given: Any) -> Dimension:
    choices = [str(c) for c in _as_list(key, given, members(key))]
    for choice in choices:
        if choice not in members(key):
            raise ConfigError(f"search.{key}: no such {key} '{choice}'; {nearest(choice, members(key))}")
    return Dimension(key, key, choices=tuple(choices))


def _setting(key: str, given: Any, config: RunConfig) -> Dimension:
    """A setting that no template declares: choices, or a range of numbers of the kind that it has now."""
    if isinstance(given, list) or (isinstance(given, Mapping) and set(given) == {"choices"}):
        return Dimension(key, key, choices=tuple(_as_list(key, given, [])))
    wanted = {"min", "max"}
    if not isinstance(given, Mapping) or not wanted <= set(given) <= wanted | {"step", "log"}:
        raise ConfigError(f"search.{key}={given!r}: give a list of choices, or min and max (step, log).")
    ends = [given["min"], given["max"]]
    for word in (*ends, given.get("step", 1)):
        if isinstance(word, bool) or not isinstance(word, int | float):
            raise ConfigError(f"search.{key}: min, max and step are numbers, and {word!r} is none.")
    now: object = config
    for name in key.split("."):
        now = getattr(now, name, None)
    is_int = isinstance(now, int) or (now is None and all(isinstance(e, int) for e in ends))
    return _numbers(key, key, None, ends[0], ends[1], given.get("step"), bool(given.get("log")), is_int)


def _hyperparameter(key: str, given: Any, templates: list[Template]) -> list[Dimension]:
    """One shared dimension where the file gives the range, else one for each template that declares it."""
    name = key.removeprefix("hp.")
    having = [t for t in templates if name in t.hyperparameters]
    if not having:
        known = {h for t in templates for h in t.hyperparameters}
        raise ConfigError(f"search.{key}: no template of this sweep declares it; {nearest(name, known)}")
    if given and len(having) == len(templates):
        rows = [_range(key, key, t.hyperparameters[name], given, None) for t in having]
        return rows[:1]
    alone = len(templates) == 1
    return [
        _range(key, key if alone else f"{key}@{t.name}", t.hyperparameters[name], given, None if alone else t.name)
        for t in having
    ]


def _range(key: str, param: str, declared: Hyperparameter, given: Any, template: str | None) -> Dimension:
    if isinstance(given, list):
        given = {"choices": given}
    wanted: Mapping[str, Any] = given or declared.search_range()
    unknown = set(wanted) - {"min", "max", "step", "log", "choices"}
    if unknown:
        raise ConfigError(f"search.{key}: unknown {sorted(unknown)}; allowed are min, max, step, log, or choices.")
    if "choices" in wanted:
        choices = tuple(declared.check(c) for c in _as_list(key, wanted["choices"], []))
        return Dimension(key, param, template, choices=choices)
    default = declared.search_range() if not given or {"min", "max"} - set(wanted) else {}
    merged = {**default, **wanted}
    low, high = declared.check(merged["min"]), declared.check(merged["max"])
    step, log = merged.get("step") or declared.step, bool(merged.get("log", False))
    return _numbers(key, param, template, low, high, step, log, declared.kind == "int")


def _numbers(
    key: str, param: str, template: str | None, low: float, high: float, step: float | None, log: bool, is_int: bool
) -> Dimension:
    if not low < high:
        raise ConfigError(f"search.{key}: min {low} must lie below max {high}.")
    if step is not None and step <= 0:
        raise ConfigError(f"search.{key}: step {step} must lie above 0.")
    if log and low <= 0:
        raise ConfigError(f"search.{key}: a logarithmic range starts above 0, not at {low}.")
    return Dimension(key, param, template, None, low, high, step, log, is_int)


def _as_list(key: str, given: Any, default: list[Any]) -> list[Any]:
    if given in (None, {}):
        return default
    values = given.get("choices") if isinstance(given, Mapping) else given
    if not isinstance(values, list) or not values:
        raise ConfigError(f"search.{key}={given!r}: give a list of choices.")
    return values


def _compose_corners(space: Space) -> None:
    """Composes every choice once: what a trial could ask for must exist before the first one starts."""
    for template in space.templates:
        base = [*space.fixed, f"template={template}"] if len(space.templates) > 1 else list(space.fixed)
        compose(base)
        for dimension in space.dimensions:
            if dimension.template not in (None, template) or dimension.key == "template":
                continue
            for value in dimension.choices if dimension.choices is not None else (dimension.low, dimension.high):
                compose([*base, f"{dimension.key}={_literal(value)}"])


def _literal(value: Any) -> str:
    """A value as Hydra reads it back.

    >>> _literal([256, 192]), _literal(True), _literal("models:/a@b")
    ('[256,192]', 'true', "'models:/a@b'")
    >>> _literal(None)
    'null'
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(_literal(v) for v in value) + "]"
    if isinstance(value, str) and not value.replace("_", "").replace("-", "").isalnum():
        return "'" + value.replace("'", "\\'") + "'"
    return str(value)
