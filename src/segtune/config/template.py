"""A template declares: an architecture plus its hyperparameters, each with default and range.

The one declaration validates overrides, is the default search space, prints as documentation and is given out as JSON.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from segtune.config.aliases import alias_hint
from segtune.errors import ConfigError, nearest

_FIELDS = {"default", "min", "max", "step", "choices", "open", "search", "description"}


@dataclass(frozen=True)
class Hyperparameter:
    """One declared hyperparameter: numeric (min, max, step), or one of `choices`.

    Attributes:
        default: the value of a run that does not say otherwise; a list for `image_size`.
        min: smallest value allowed (each entry's, for a list).
        max: largest value allowed; None for no bound.
        step: values are min + k * step; None for any.
        choices: the values allowed; with `open`, suggestions besides which any string is allowed.
        search: what a sweep searches by default: {min, max, step, log} or {choices}.
    """

    name: str
    default: Any
    min: float | None = None
    max: float | None = None
    step: float | None = None
    choices: tuple[Any, ...] | None = None
    open: bool = False
    search: Mapping[str, Any] | None = None
    description: str = ""

    @property
    def kind(self) -> str:
        """`int`, `float`, `bool`, `str` or `list[int]`, as the default shows."""
        return "list[int]" if isinstance(self.default, list) else type(self.default).__name__

    @property
    def is_text(self) -> bool:
        """Whether every value is text."""
        return isinstance(self.default, str) and all(isinstance(c, str) for c in self.choices or ())

    @property
    def allowed(self) -> str:
        """The range in words, for messages and tables."""
        if self.choices is not None:
            names = ", ".join(str(c) for c in self.choices)
            return f"{names}, …" if self.open else names
        low = "-inf" if self.min is None else f"{self.min:g}"
        high = "inf" if self.max is None else f"{self.max:g}"
        return f"{low}..{high}" + (f" step {self.step:g}" if self.step else "")

    def check(self, value: Any) -> Any:
        """The value, converted to the declared type.

        Raises:
            ConfigError: another type, out of range, off the step, or not among the choices.
        """
        if isinstance(self.default, list):
            values = list(value) if isinstance(value, list | tuple) else [value]
            if len(values) not in (1, 2):
                raise self._refuse(value, "one value (shorter side) or two (width, height)")
            return [self._check_number(v, int) for v in values]
        if self.choices is not None:
            return self._check_choice(value)
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise self._refuse(value, "true or false")
            return value
        return self._check_number(value, int if isinstance(self.default, int) else float)

    def _check_choice(self, value: Any) -> Any:
        assert self.choices is not None
        if value is None:
            value = "none"
        if value in self.choices or (self.open and isinstance(value, str) and value):
            return value
        hint = nearest(str(value), (str(c) for c in self.choices))
        raise ConfigError(f"hp.{self.name}={value}: not one of {self.allowed}; {hint}")

    def _check_number(self, value: Any, kind: type) -> Any:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise self._refuse(
                value, f"a{'n integer' if kind is int else ' number'} in {self.allowed}"
            )
        if kind is int and float(value) != int(value):
            raise self._refuse(value, f"an integer in {self.allowed}")
        if (self.min is not None and value < self.min) or (
            self.max is not None and value > self.max
        ):
            raise self._refuse(value, self.allowed)
        if self.step:
            steps = (value - (self.min or 0)) / self.step
            if abs(steps - round(steps)) > 1e-6:
                raise self._refuse(value, self.allowed)
        return kind(value)

    def _refuse(self, value: Any, allowed: str) -> ConfigError:
        shown = repr(value) if isinstance(value, str) else value
        return ConfigError(
            f"hp.{self.name}={shown}: allowed is {allowed} (default {self.default})."
        )

    def search_range(self) -> dict[str, Any]:
        """What a sweep draws from when its file names this hyperparameter without a range.

        Raises:
            ConfigError: the declaration bounds it on one side only, and gives no `search`.
        """
        if self.search:
            return dict(self.search)
        if self.choices is not None:
            return {"choices": list(self.choices)}
        if isinstance(self.default, bool):
            return {"choices": [False, True]}
        if isinstance(self.default, list):
            raise ConfigError(
                f"hp.{self.name} has no default search range: give a list of choices, as [{self.default}]."
            )
        if self.min is None or self.max is None:
            raise ConfigError(
                f"hp.{self.name} has no default search range: give min and max, or choices."
            )
        return {"min": self.min, "max": self.max} | ({"step": self.step} if self.step else {})


@dataclass(frozen=True)
class Template:
    """An architecture and the hyperparameters that it declares.

    Attributes:
        kind: `segmenter`, or `labeler` for one that labels regions.
        model: how to build it, with `${hp.…}` where a hyperparameter chooses.
    """

    name: str
    title: str
    reference: str
    model: Mapping[str, Any]
    hyperparameters: Mapping[str, Hyperparameter]
    kind: str = "segmenter"

    def resolve(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The declared defaults with the chosen values on top, each checked.

        Raises:
            ConfigError: an undeclared name (with the nearest one), or a value outside its range.
        """
        for name in chosen:
            if name not in self.hyperparameters:
                alias = alias_hint(name)
                hint = alias if "hp." in alias else nearest(name, self.hyperparameters)
                raise ConfigError(
                    f"hp.{name}: template '{self.name}' declares no such hyperparameter; {hint}"
                )
        values = {}
        for name, declared in self.hyperparameters.items():
            values[name] = declared.check(chosen.get(name, declared.default))
        return values

    def to_json(self) -> dict[str, Any]:
        """The declaration as plain data."""
        rows = {}
        for name, declared in self.hyperparameters.items():
            row = {
                k: v
                for k, v in asdict(declared).items()
                if v not in (None, "", False) and k != "name"
            }
            rows[name] = {"type": declared.kind, "default": declared.default} | row
        return {
            "name": self.name,
            "kind": self.kind,
            "title": self.title,
            "reference": self.reference,
            "model": dict(self.model),
            "hyperparameters": rows,
        }


def parse_template(raw: Mapping[str, Any]) -> Template:
    """Reads a template's YAML.

    Raises:
        ConfigError: a missing or unknown key, or a default outside its own range.
    """
    unknown = set(raw) - {"name", "kind", "title", "reference", "model", "hyperparameters"}
    missing = {"name", "model", "hyperparameters"} - set(raw)
    if unknown or missing:
        raise ConfigError(
            f"template {raw.get('name', '?')!r}: "
            + (f"unknown keys {sorted(unknown)}; " if unknown else "")
            + (f"missing keys {sorted(missing)}; " if missing else "")
            + "a template has name, kind, title, reference, model, hyperparameters."
        )
    declared = {}
    for name, row in raw["hyperparameters"].items():
        extra = set(row) - _FIELDS
        if extra or "default" not in row:
            raise ConfigError(
                f"template {raw['name']}: hyperparameters.{name} "
                + (f"has unknown keys {sorted(extra)}" if extra else "has no default")
                + f"; allowed: {', '.join(sorted(_FIELDS))}."
            )
        values = dict(row)
        if values.get("choices") is not None:
            values["choices"] = tuple(values["choices"])
        hyperparameter = Hyperparameter(name=name, **values)
        hyperparameter.check(hyperparameter.default)
        declared[name] = hyperparameter
    return Template(
        raw["name"],
        raw.get("title", ""),
        raw.get("reference", ""),
        raw["model"],
        declared,
        raw.get("kind", "segmenter"),
    )
