"""A template: an architecture, and its hyperparameters with their defaults and ranges.

This declaration checks overrides. It is also the default search space, the printed documentation,
and JSON for other programs.
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
        default: value of a run that sets no other; a list for `image_size`.
        min: smallest allowed value (of each entry, for a list); None for no bound.
        max: largest allowed value; None for no bound.
        step: allowed values are min + k * step; None for any value.
        choices: the allowed values.
        open: any other text is allowed too; `choices` are suggestions.
        search: default search range of a sweep: {min, max, step, log} or {choices}.
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
        """The type of the default: `int`, `float`, `bool`, `str` or `list[int]`."""
        return "list[int]" if isinstance(self.default, list) else type(self.default).__name__

    @property
    def is_text(self) -> bool:
        """True if every value is text."""
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
        """Return the value, converted to the declared type.

        Raises:
            ConfigError: a wrong type, or a value out of range, off the step or not among the
                choices.
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
        expected = f"{'an integer' if kind is int else 'a number'} in {self.allowed}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refuse(value, expected)
        if not math.isfinite(value) or (kind is int and float(value) != int(value)):
            raise self._refuse(value, expected)
        if self.min is not None and value < self.min:
            raise self._refuse(value, self.allowed)
        if self.max is not None and value > self.max:
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
        """Return the search range for a sweep file that names the hyperparameter without a range.

        Raises:
            ConfigError: the declaration has neither `search`, nor choices, nor two bounds.
        """
        if self.search:
            return dict(self.search)
        if self.choices is not None:
            return {"choices": list(self.choices)}
        if isinstance(self.default, bool):
            return {"choices": [False, True]}
        if isinstance(self.default, list):
            raise ConfigError(
                f"hp.{self.name} has no default search range: give a list of choices, "
                f"as [{self.default}]."
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
        kind: `segmenter`, or `labeler` for a model that labels regions.
        model: arguments of the model; `${hp.…}` stands for the value of a hyperparameter.
    """

    name: str
    title: str
    reference: str
    model: Mapping[str, Any]
    hyperparameters: Mapping[str, Hyperparameter]
    kind: str = "segmenter"

    def resolve(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the chosen values and the declared defaults of the others, all checked.

        Raises:
            ConfigError: an undeclared name (with the nearest one), or a value out of range.
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
        """Return the declaration as plain data."""
        rows = {}
        for name, declared in self.hyperparameters.items():
            fields = {k: v for k, v in asdict(declared).items() if v not in (None, "", False)}
            fields.pop("name")
            rows[name] = {"type": declared.kind, "default": declared.default} | fields
        return {
            "name": self.name,
            "kind": self.kind,
            "title": self.title,
            "reference": self.reference,
            "model": dict(self.model),
            "hyperparameters": rows,
        }


def parse_template(raw: Mapping[str, Any]) -> Template:
    """Read the content of a template's file.

    Raises:
        ConfigError: a missing or unknown key, or a default outside its own range.
    """
    unknown = sorted(set(raw) - set(_KEYS))
    missing = [key for key in _REQUIRED_KEYS if key not in raw]
    if unknown or missing:
        faults = [f"unknown keys {unknown}"] if unknown else []
        faults += [f"missing keys {missing}"] if missing else []
        raise ConfigError(
            f"template {raw.get('name', '?')!r}: {'; '.join(faults)}; "
            f"a template has {', '.join(_KEYS)}."
        )
    declared = {}
    for name, fields in raw["hyperparameters"].items():
        declared[name] = _parse_hyperparameter(raw["name"], name, fields)
    return Template(
        name=raw["name"],
        title=raw.get("title", ""),
        reference=raw.get("reference", ""),
        model=raw["model"],
        hyperparameters=declared,
        kind=raw.get("kind", "segmenter"),
    )


_KEYS = ("name", "kind", "title", "reference", "model", "hyperparameters")
_REQUIRED_KEYS = ("hyperparameters", "model", "name")


def _parse_hyperparameter(template: str, name: str, fields: Mapping[str, Any]) -> Hyperparameter:
    unknown = sorted(set(fields) - _FIELDS)
    if unknown or "default" not in fields:
        fault = f"has unknown keys {unknown}" if unknown else "has no default"
        raise ConfigError(
            f"template {template}: hyperparameters.{name} {fault}; "
            f"allowed: {', '.join(sorted(_FIELDS))}."
        )
    values = dict(fields)
    if values.get("choices") is not None:
        values["choices"] = tuple(values["choices"])
    hyperparameter = Hyperparameter(name=name, **values)
    hyperparameter.check(hyperparameter.default)
    return hyperparameter
