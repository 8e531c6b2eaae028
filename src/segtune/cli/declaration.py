"""The declaration of a verb, the call that it receives, and the outcome that it returns."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from segtune.errors import ConfigError
from segtune.plugins.registry import own_names

if TYPE_CHECKING:
    from segtune.config.schema import TrackingConfig

Kind = Literal["text", "path", "integer", "number", "boolean", "list", "mapping", "flag"]
_PLACEHOLDERS = {
    "integer": "N",
    "number": "X",
    "boolean": "true|false",
    "path": "PATH",
    "mapping": "{KEY: VALUE}",
}


@dataclass(frozen=True)
class Option:
    """One option of a verb. Parsing, help, hints and shell completion all read this declaration.

    Attributes:
        name: `output` is written `output=VALUE`, `--output VALUE` or `--output=VALUE`.
        meaning: one phrase for the help.
        kind: a `path` is text in which `~` stands for the home folder; a `list` is separated by
            commas; a `mapping` is written `name={KEY: VALUE}` or `name.KEY=VALUE`; a `flag` is
            written `--name` and takes no value.
        sets: `module:function` of the parameter that the option sets. The default and the allowed
            values are those of the parameter, so that they stand in one place.
        value: placeholder in the usage.
        default_text: default in words, where the parameter has none that explains itself.
        above: numbers must be greater.
        required: the verb cannot run without it.
        completes: values that the shell offers: `file`, or a kind of name.
        group: the choices are our own parts of this group; those of plugins are allowed, too.
    """

    name: str
    meaning: str
    kind: Kind = "text"
    sets: str = ""
    value: str = ""
    default_text: str = ""
    above: float | None = None
    required: bool = False
    completes: str = ""
    group: str = ""

    @property
    def parameter(self) -> inspect.Parameter | None:
        """The parameter that the option sets; None for an option of the command line alone."""
        if not self.sets:
            return None
        module, _, function = self.sets.partition(":")
        signature = inspect.signature(getattr(import_module(module), function))
        return signature.parameters[self.name.rpartition(".")[2]]

    @property
    def choices(self) -> tuple[str, ...]:
        """The only values allowed, of each item for a list; empty where any value is.

        >>> Option("order", "", sets="segtune.config.dataset_schema:AnnotationsConfig").choices[:2]
        ('auto', 'largest_first')
        """
        if self.group:
            return own_names(self.group)
        parameter = self.parameter
        return () if parameter is None else _literals(parameter.annotation)

    @property
    def default(self) -> str:
        """The default as the help shows it; empty where there is none.

        >>> Option("top", "", sets="segtune.api.experiments:confirm").default
        '3'
        """
        parameter = self.parameter
        if self.default_text or parameter is None:
            return self.default_text
        value = parameter.default
        if self.kind == "mapping":
            return "{}"  # a dataclass makes it by a factory
        if value in (None, inspect.Parameter.empty):
            return ""
        if isinstance(value, bool):
            return str(value).lower()
        return ",".join(value) if isinstance(value, tuple) else str(value)

    @property
    def placeholder(self) -> str:
        """The part of the usage that stands for the value."""
        if self.choices:
            return ("," if self.kind == "list" else "|").join(self.choices)
        return self.value or _PLACEHOLDERS.get(self.kind, "VALUE")

    @property
    def usage(self) -> str:
        """The option as it is written.

        >>> Option("top", "", "integer").usage, Option("fix", "", "flag").usage
        ('top=N', '--fix')
        """
        return f"--{self.name}" if self.kind == "flag" else f"{self.name}={self.placeholder}"


def _literals(annotation: Any) -> tuple[str, ...]:
    """Return the values of a Literal, also within a union or a tuple; empty without one."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Literal:
        return arguments
    if origin in (typing.Union, types.UnionType, tuple):
        return next(filter(None, map(_literals, arguments)), ())
    return ()


@dataclass(frozen=True)
class Call:
    """One call of a verb.

    Attributes:
        names: words without a key.
        options: the options that the user gave, by name, converted to their kind.
        overrides: the other `key=value` words, as given, for the config.
    """

    names: Sequence[str]
    options: Mapping[str, Any]
    overrides: Sequence[str]

    def given(self, *names: str) -> dict[str, Any]:
        """Return the options of these names that the user gave."""
        return {name: self.options[name] for name in names if name in self.options}

    def flag(self, name: str) -> bool:
        """Return whether the user gave a flag."""
        return bool(self.options.get(name, False))

    def one_name(self, meaning: str) -> str:
        """Return the single name that the verb needs.

        Raises:
            ConfigError: no name, or several.
        """
        if len(self.names) != 1:
            raise ConfigError(
                f"give one {meaning}, found {len(self.names)}: {' '.join(self.names) or 'none'}."
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
        run: the function that carries out a call.
        summary: one sentence for the help.
        example: a command.
        names: words after the verb, as `SWEEP` or `[TEMPLATE]`; empty for a verb that takes none.
        options: the options of the verb itself.
        passes: beginnings of keys that the verb passes to a config, as `gate` for `gate=` and
            `gate.KEY=`; `*` for every key that `segtune train` takes.
        completes: kinds of name that the shell offers, as `sweep`.
    """

    run: Callable[[Call], Outcome]
    summary: str
    example: str
    names: str = ""
    options: tuple[Option, ...] = ()
    passes: tuple[str, ...] = ()
    completes: tuple[str, ...] = ()

    def option(self, key: str) -> Option | None:
        """Return the option of a key; `name.KEY` is a key of the mapping `name`."""
        for option in self.options:
            is_inside = option.kind == "mapping" and key.startswith(f"{option.name}.")
            if option.name == key or is_inside:
                return option
        return None

    def takes(self, key: str) -> bool:
        """Return whether the verb passes a key to a config."""
        return "*" in self.passes or any(key == p or key.startswith(f"{p}.") for p in self.passes)


_OPEN = "segtune.api.experiments:open_root"
STORE = (
    Option("tracking.root", "folder of the store", "path", _OPEN, "DIR", completes="file"),
    Option("tracking.uri", "MLflow server, in place of the store's own database", value="URI"),
)
RUNTIME_OPTIONS = Option(
    "runtime_options",
    "options of the engine, as runtime_options.KEY=VALUE",
    "mapping",
    "segtune.inference.options:Options",
)
EXPERIMENT = Option("tracking.experiment", "MLflow experiment of the runs", "text", _OPEN, "NAME")
STORAGE = Option(
    "sweep.storage",
    "database of a study that several machines share",
    value="postgresql://…",
    default_text="the database of the sweep, which the folder tracking.root names",
)


def store_options(call: Call) -> dict[str, Any]:
    """Return the place of the store, as the functions of `api` take it."""
    keys = [option.name for option in (*STORE, EXPERIMENT)]
    return {k.removeprefix("tracking."): call.options[k] for k in keys if k in call.options}


def tracking_config(call: Call) -> "TrackingConfig":
    """Return the place of the store as settings."""
    from segtune.config.schema import TrackingConfig

    return TrackingConfig(**store_options(call))
