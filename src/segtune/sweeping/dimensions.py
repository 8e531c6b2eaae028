"""One dimension of a search space: the values that it holds, and how a trial draws one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna import Trial
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)

from segtune.config.compose import Composed
from segtune.config.keys import GROUPS
from segtune.config.quoting import quoted
from segtune.config.renamed import current_key, former_keys

TOLERANCE = 1e-6  # of a step: 0.1 + 0.2 is not 0.3
# texts that Hydra reads as something else than text
_WORDS_WITH_MEANING = ("null", "true", "false", "nan", "inf")


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
        value = draw(trial, self.param, self.distribution)
        if self.choices is None:
            return value
        return self.choices[[str(c) for c in self.choices].index(value)]

    @property
    def distribution(self) -> BaseDistribution:
        """What the study records of it."""
        if self.choices is not None:
            return CategoricalDistribution([str(c) for c in self.choices])
        if self.is_int:
            step = 1 if self.log else int(self.step or 1)
            return IntDistribution(int(self.low), int(self.high), self.log, step)
        return FloatDistribution(self.low, self.high, self.log, None if self.log else self.step)

    def values(self) -> Iterable[Any] | None:
        """Every value that it can take; None where there is no end of them."""
        if self.choices is not None:
            return self.choices
        step = self.step or (1 if self.is_int else None)
        if step is None or (self.log and not self.is_int):
            return None
        if self.log:
            return range(int(self.low), int(self.high) + 1)
        count = int((self.high - self.low) / step + TOLERANCE) + 1
        values = (self.low + i * step for i in range(count))
        return (int(v) for v in values) if self.is_int else values

    def describe(self) -> str:
        """The dimension as people read it, choices as they would type them.

        >>> Dimension("trainer.ema_decay", "trainer.ema_decay", choices=(None, 0.99)).describe()
        'trainer.ema_decay: null, 0.99'
        """
        only = f" (for {self.template})" if self.template else ""
        return f"{self.key}: {self.allowed}{only}"

    @property
    def allowed(self) -> str:
        """Its values in words."""
        if self.choices is not None:
            return ", ".join(literal(c) for c in self.choices)
        scale = ", logarithmic" if self.log else f", step {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{scale}"

    def holds(self, value: Any) -> bool:
        """Whether it can take a value."""
        values = self.values()
        return self.low <= value <= self.high if values is None else value in values

    def value_like(self, given: Any) -> Any:
        """The value of this dimension that a file or a config writes as `given`.

        >>> Dimension("hp.image_size", "hp.image_size", choices=([256], [512])).value_like(512)
        [512]

        Raises:
            ValueError: it has no such value.
        """
        if self.choices is not None:
            for choice in self.choices:
                same_kind = isinstance(choice, bool) == isinstance(given, bool)
                if same_kind and (_plain(choice) == _plain(given) or _plain(choice) == [given]):
                    return choice
            raise ValueError(given)
        if (
            isinstance(given, bool)
            or not isinstance(given, int | float)
            or not self.low <= given <= self.high
        ):
            raise ValueError(given)
        values = self.values()
        if values is None:
            return float(given)
        step = self.step or 1
        for value in values:
            if abs(value - given) <= TOLERANCE * step:
                return value
        raise ValueError(given)

    def as_param(self, value: Any) -> Any:
        """A value as the study keeps it."""
        return str(value) if self.choices is not None else value

    def beside(self, recorded: Mapping[str, list[BaseDistribution]]) -> "Dimension":
        """The dimension under a name that the study can record it under.

        Optuna keeps one kind of range for each name. After a choice was added, or a list became a range, the values
        are recorded as `hp.width#2`.

        Args:
            recorded: name -> what the study's trials drew it from.
        """
        known = [self.param, *(self.param.replace(self.key, k) for k in former_keys(self.key))]
        param = next((name for name in known if name in recorded), self.param)
        number, name = 1, param
        while not all(_are_compatible(d, self.distribution) for d in recorded.get(name, ())):
            number += 1
            name = f"{param}#{number}"
        return replace(self, param=name)


def draw(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """A parameter's value in a trial: the sampler's, or what the trial was enqueued with."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    suggest: Any = (
        trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    )
    return suggest(
        name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def plain_param(name: str) -> str:
    """A parameter's present name, without the number that `Dimension.beside` adds.

    >>> plain_param("hp.width@swift#2"), plain_param("hp.width")
    ('hp.width@swift', 'hp.width')
    """
    key, at, template = name.partition("#")[0].partition("@")
    return f"{current_key(key)}{at}{template}"


def _are_compatible(old: BaseDistribution, new: BaseDistribution) -> bool:
    try:
        check_distribution_compatibility(old, new)
    except ValueError:
        return False
    return True


def value_in(composed: Composed, key: str) -> Any:
    """The value of a search key in a composed config: of a group, the member that was chosen."""
    if key == "template":
        return composed.template.name
    if key in GROUPS:
        return composed.choices.get(key)
    value: Any = composed.config.model_dump()
    for name in key.split("."):
        value = value[name]
    return value


def literal(value: Any) -> str:
    """A value as Hydra reads it back.

    >>> literal([256, 192]), literal(True), literal("models:/a@b"), literal("16"), literal({"dice": 1.0})
    ('[256,192]', 'true', "'models:/a@b'", "'16'", '{dice:1.0}')
    >>> literal(None), literal("null"), literal("ce_dice")
    ('null', "'null'", 'ce_dice')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(literal(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{literal(v)}" for k, v in value.items()) + "}"
    if not isinstance(value, str):
        return str(value)
    plain = value.replace("_", "").replace("-", "").isalnum() and value[0].isalpha()
    if plain and value.isascii() and value.lower() not in _WORDS_WITH_MEANING:
        return value
    return quoted(value)
