"""How a verb is declared, what it receives, and what it returns."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from segtune.config.quoting import unquoted
from segtune.errors import ConfigError, nearest

if TYPE_CHECKING:
    from segtune.config.schema import TrackingConfig

Kind = Literal["text", "path", "integer", "number", "boolean", "list", "flag"]


@dataclass(frozen=True)
class Option:
    """One option of a verb. Parsing, help, hints and shell completion all read this declaration.

    Attributes:
        name: `output` is written `output=VALUE`, `--output VALUE` or `--output=VALUE`.
        kind: a `path` is text in which `~` stands for the home folder; a `list` is separated by
            commas; a `flag` is written `--name` and takes no value.
        value: placeholder in the usage.
        default: in words, for the help; what the called function does without the option.
        choices: the only values allowed, of each item for a list.
        above: numbers must be greater.
        completes: what the shell offers as values: `file`, or a kind of name.
    """

    name: str
    meaning: str
    kind: Kind = "text"
    value: str = ""
    default: str = ""
    choices: tuple[str, ...] = ()
    above: float | None = None
    required: bool = False
    completes: str = ""

    @property
    def placeholder(self) -> str:
        """What stands for the value in the usage.

        >>> Option("top", "", "integer").placeholder, Option("tta", "", choices=("none", "flip")).placeholder
        ('N', 'none|flip')
        """
        if self.choices:
            return ("," if self.kind == "list" else "|").join(self.choices)
        return self.value or {
            "integer": "N",
            "number": "X",
            "boolean": "true|false",
            "path": "PATH",
        }.get(self.kind, "VALUE")

    @property
    def usage(self) -> str:
        """The option as it is written."""
        return f"--{self.name}" if self.kind == "flag" else f"{self.name}={self.placeholder}"


@dataclass(frozen=True)
class Call:
    """One call of a verb.

    Attributes:
        options: those that were given, by name, converted to their kind.
        overrides: the other `key=value` words, as given, for the config.
    """

    names: Sequence[str]
    options: Mapping[str, Any]
    overrides: Sequence[str]

    def given(self, *names: str) -> dict[str, Any]:
        """The options of these names that were given."""
        return {name: self.options[name] for name in names if name in self.options}

    def flag(self, name: str) -> bool:
        """Whether a flag was given."""
        return bool(self.options.get(name, False))

    def one_name(self, what: str) -> str:
        """The single name that the verb needs."""
        if len(self.names) != 1:
            raise ConfigError(
                f"give one {what}, found {len(self.names)}: {' '.join(self.names) or 'none'}."
            )
        return self.names[0]


@dataclass(frozen=True)
class Outcome:
    """The result of a verb: an object for --json, lines for people."""

    data: Mapping[str, Any]
    lines: Sequence[str]
    exit_code: int = 0


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        names: what stands behind the verb, as `SWEEP` or `[TEMPLATE]`; empty where no name is taken.
        options: its own.
        passes: beginnings of keys that go on to a config, as `gate` for `gate=` and `gate.KEY=`;
            `*` for every key that `segtune train` takes.
        completes: kinds of name that the shell offers, as `sweep`.
    """

    run: Callable[[Call], Outcome]
    summary: str
    example: str
    names: str = ""
    options: tuple[Option, ...] = ()
    passes: tuple[str, ...] = ()
    completes: tuple[str, ...] = ()

    def option(self, name: str) -> Option | None:
        """The option of this name."""
        return next((o for o in self.options if o.name == name), None)

    def takes(self, key: str) -> bool:
        """Whether a key goes on to a config."""
        return "*" in self.passes or any(key == p or key.startswith(f"{p}.") for p in self.passes)


STORE = (
    Option("tracking.root", "folder of the store", "path", "DIR", "mlruns", completes="file"),
    Option("tracking.uri", "MLflow server instead of the store's own database", value="URI"),
)
EXPERIMENT = Option(
    "tracking.experiment", "MLflow experiment of the runs", value="NAME", default="segtune"
)
STORAGE = Option(
    "sweep.storage",
    "database of a study that several machines share",
    value="postgresql://…",
    default="where the sweep was started, as tracking.root remembers it",
)


def store_options(call: Call) -> dict[str, Any]:
    """Where runs are recorded, as the functions of `api` take it."""
    names = {o.name: o.name.removeprefix("tracking.") for o in (*STORE, EXPERIMENT)}
    return {name: call.options[key] for key, name in names.items() if key in call.options}


def tracking_of(call: Call) -> "TrackingConfig":
    """The same as settings."""
    from segtune.config.schema import TrackingConfig

    return TrackingConfig(**store_options(call))


def converted(option: Option, text: str) -> Any:
    """The value of an option, from the word behind `=`.

    Raises:
        ConfigError: no value, another type, out of range, or not among the choices.

    >>> converted(Option("top", "", "integer", above=0), "3")
    3
    """
    text = unquoted(text)
    if option.kind == "flag" or not text:
        raise ConfigError(_wrong_form(option, text))
    if option.kind == "list":
        inner = text[1:-1] if text[0] == "[" and text[-1] == "]" else text
        items = [item.strip() for item in inner.split(",") if item.strip()]
        return tuple(_chosen(option, item) for item in items)
    if option.kind == "boolean":
        if text.lower() not in _BOOLEANS:
            raise ConfigError(f"{option.name}={text}: true or false is expected.")
        return _BOOLEANS[text.lower()]
    if option.kind in ("integer", "number"):
        return _number(option, text)
    if option.kind == "path":
        return expanded(text)
    return _chosen(option, text)


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _wrong_form(option: Option, text: str) -> str:
    if option.kind == "flag":
        return f"--{option.name}={text}: --{option.name} takes no value. Write --{option.name}, or leave it out."
    return f"{option.name} has no value. Write {option.usage}: {option.meaning}."


def _chosen(option: Option, text: str) -> str:
    if option.choices and text not in option.choices:
        allowed = ", ".join(option.choices)
        raise ConfigError(
            f"{option.name}={text}: {nearest(text, option.choices)} (allowed: {allowed})"
        )
    return text


def _number(option: Option, text: str) -> float:
    kind: Callable[[str], float] = int if option.kind == "integer" else float
    try:
        value = kind(text)
    except ValueError:
        value = float("nan")
    above = float("-inf") if option.above is None else option.above
    if not above < value < float("inf"):
        what = "a whole number" if option.kind == "integer" else "a number"
        bound = "" if option.above is None else f" above {option.above:g}"
        raise ConfigError(f"{option.name}={text}: {what}{bound} is expected.")
    return value


def expanded(path: str) -> str:
    """A path in which a leading `~` or `~user` is replaced by the home folder, where there is one."""
    return os.path.expanduser(path)
