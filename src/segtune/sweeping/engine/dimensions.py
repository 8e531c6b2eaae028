"""One dimension of a search space: its values, and how a trial draws one of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from optuna import Trial
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)

from segtune.runtime.quoting import quoted

TOLERANCE = 1e-6  # relative to a step: 0.1 + 0.2 differs from 0.3
_NOT_TEXT = ("null", "true", "false", "nan", "inf")  # Hydra gives these words another type


@dataclass(frozen=True)
class Dimension:
    """One searched key.

    Attributes:
        key: the override key, such as `hp.width`.
        param: its name in the study.
        choices: the values, or None for a numeric range.
    """

    key: str
    param: str
    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 1.0
    step: float | None = None
    log: bool = False
    is_int: bool = False

    def suggest(self, trial: Trial) -> Any:
        """Return the value that the sampler proposes."""
        return self.from_param(draw(trial, self.param, self.distribution))

    @property
    def distribution(self) -> BaseDistribution:
        """The dimension as an Optuna distribution; choices are recorded as text."""
        if self.choices is not None:
            return CategoricalDistribution([str(choice) for choice in self.choices])
        if self.is_int:
            step = 1 if self.log else int(self.step or 1)
            return IntDistribution(int(self.low), int(self.high), self.log, step)
        return FloatDistribution(self.low, self.high, self.log, None if self.log else self.step)

    def values(self) -> Iterable[Any] | None:
        """Iterate over all values of the dimension; None if it is continuous."""
        if self.choices is not None:
            return self.choices
        step = self.step or (1 if self.is_int else None)
        if step is None or (self.log and not self.is_int):
            return None
        if self.log:
            return range(int(self.low), int(self.high) + 1)
        count = int((self.high - self.low) / step + TOLERANCE) + 1
        values = (self.low + number * step for number in range(count))  # may be 2**31 seeds
        return (int(value) for value in values) if self.is_int else values

    def describe(self) -> str:
        """Return the key with its values, as a user types them.

        >>> Dimension("trainer.ema_decay", "trainer.ema_decay", choices=(None, 0.99)).describe()
        'trainer.ema_decay: null, 0.99'
        """
        return f"{self.key}: {self.allowed}"

    @property
    def allowed(self) -> str:
        """The values as text: the choices, or the ends of the range with its step or scale."""
        if self.choices is not None:
            return ", ".join(literal(choice) for choice in self.choices)
        scale = ", logarithmic" if self.log else f", step {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{scale}"

    def holds(self, value: Any) -> bool:
        """Return whether the dimension has this value."""
        values = self.values()
        return self.low <= value <= self.high if values is None else value in values

    def value_like(self, written: Any) -> Any:
        """Return the value of this dimension that a file or a config writes as `written`.

        >>> Dimension("hp.image_size", "hp.image_size", choices=([256], [512])).value_like(512)
        [512]

        Raises:
            ValueError: the dimension has no such value.
        """
        if self.choices is not None:
            return self._choice_like(written)
        is_number = isinstance(written, int | float) and not isinstance(written, bool)
        if not is_number or not self.low <= written <= self.high:
            raise ValueError(written)
        values = self.values()
        if values is None:
            return float(written)
        for value in values:
            if abs(value - written) <= TOLERANCE * (self.step or 1):
                return value
        raise ValueError(written)

    def _choice_like(self, written: Any) -> Any:
        for choice in self.choices or ():
            if isinstance(choice, bool) != isinstance(written, bool):  # True == 1 in Python
                continue
            plain = _with_lists(choice)
            if plain == _with_lists(written) or plain == [written]:
                return choice
        raise ValueError(written)

    def as_param(self, value: Any) -> Any:
        """Return a value in the form that the study records."""
        return str(value) if self.choices is not None else value

    def from_param(self, recorded: Any) -> Any:
        """Return the value that the study records as `recorded`; itself if it has no such value."""
        if self.choices is None:
            return recorded
        return next((c for c in self.choices if str(c) == recorded), recorded)

    def known_params(self) -> list[str]:
        """Return the names under which a study may have recorded the dimension."""
        return [self.param]

    def recordable(self, recorded: Mapping[str, list[BaseDistribution]]) -> Self:
        """Return the dimension under a parameter name that the study can record.

        Optuna allows one kind of distribution for each name. After a choice was added, or a list
        became a range, the values are recorded as `hp.width#2`.

        Args:
            recorded: parameter name -> the distributions from which the study's trials drew it.
        """
        param = next((name for name in self.known_params() if name in recorded), self.param)
        number, name = 1, param
        while not all(_are_compatible(d, self.distribution) for d in recorded.get(name, ())):
            number += 1
            name = f"{param}#{number}"
        return replace(self, param=name)


def draw(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """Return a trial's value of a parameter: the enqueued value, else the sampler's proposal."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    is_int = isinstance(distribution, IntDistribution)
    suggest: Any = trial.suggest_int if is_int else trial.suggest_float
    return suggest(
        name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )


def literal(value: Any) -> str:
    """Return a value as text that Hydra reads back as the same value.

    >>> literal([256, 192]), literal(True), literal("models:/a@b"), literal("16")
    ('[256,192]', 'true', "'models:/a@b'", "'16'")
    >>> literal({"dice": 1.0}), literal(None), literal("null"), literal("ce_dice")
    ('{dice:1.0}', 'null', "'null'", 'ce_dice')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(literal(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{literal(item)}" for key, item in value.items()) + "}"
    if not isinstance(value, str):
        return str(value)
    is_word = value.replace("_", "").replace("-", "").isalnum() and value[0].isalpha()
    if is_word and value.isascii() and value.lower() not in _NOT_TEXT:
        return value
    return quoted(value)


def _with_lists(value: Any) -> Any:
    """Return a value with its tuples as lists, as a YAML file writes them."""
    return [_with_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _are_compatible(old: BaseDistribution, new: BaseDistribution) -> bool:
    try:
        check_distribution_compatibility(old, new)
    except ValueError:
        return False
    return True
