"""The registry: `register` adds a part to a group, `find` looks one up by its name.

Our own parts are registered in `segtune.plugins.own`. Names never lead to an import: a part exists
once the user's plugin is loaded, see `segtune.plugins.loading`.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from segtune.errors import ConfigError, nearest
from segtune.plugins.groups import GROUPS
from segtune.plugins.origin import Plugin, plugin_of

Target = TypeVar("Target", bound=Callable[..., Any])
_OWN = "segtune.plugins.own"
_NAME = re.compile(r"[A-Za-z]\w*(-\w+)*")


@dataclass(frozen=True)
class Part:
    """A registered function or class.

    Attributes:
        target: the function or class, or `module:name` of one that is imported at its first use.
        plugin: that registered it; None for our own parts.
        facts: more that was said at the registration, such as the unit of a metric.
    """

    group: str
    name: str
    target: Any
    plugin: Plugin | None
    facts: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Group and name, as `loss/tversky`."""
        return f"{self.group}/{self.name}"

    def load(self) -> Any:
        """Return the function or class; of a target `module:`, the module."""
        if not isinstance(self.target, str):
            return self.target
        module, _, name = self.target.partition(":")
        loaded: Any = import_module(module)
        return getattr(loaded, name) if name else loaded

    def parameters(self) -> list[inspect.Parameter]:
        """Return the parameters that are options: those that segtune does not give."""
        return _split(self.group, self.load())[1]

    def record(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options and the plugin of a part that was used, as plain data."""
        plugin = None if self.plugin is None else self.plugin.to_json()
        return {"options": dict(options), "plugin": plugin}

    def declares(self, name: str) -> bool:
        """Return whether the part takes a keyword argument of the context, such as `pretrained`."""
        return name in _split(self.group, self.load())[2]


def built(part: Part, *given: Any, context: Any = None, **options: Any) -> Any:
    """Call a part with what segtune gives it and its options.

    Args:
        context: facts of the run, for parts that declare a parameter `context`.
    """
    more = {"context": context} if part.declares("context") else {}
    return part.load()(*given, **more, **options)


_parts: dict[tuple[str, str], Part] = {}
_before_lookup: list[Callable[[], None]] = []


def register(
    group: str, name: str, target: str | None = None, **facts: Any
) -> Callable[[Target], Target]:
    """Register a function or class as a part of a group: `@segtune.register("loss", "tversky")`.

    Its keyword arguments with their types and defaults are the part's options in a config.

    Args:
        group: a key of `segtune.plugins.groups.GROUPS`.
        name: the name in configs.
        target: `module:name` of a part that is imported at its first use; then nothing is
            decorated.
        facts: more about the part, see `docs/extending.md`.

    Raises:
        ConfigError: an unknown group, a name that is taken, or a signature that does not fit.
    """
    module = sys._getframe(1).f_globals.get("__name__", "__main__")
    plugin = None if module == _OWN else plugin_of(module)
    if group not in GROUPS:
        raise ConfigError(f"register('{group}', '{name}'): no such group; {nearest(group, GROUPS)}")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"register('{group}', '{name}'): a name holds letters, digits, _ and -, and begins "
            "with a letter."
        )

    def add(part_target: Any) -> Any:
        _add(Part(group, name, part_target, plugin, facts))
        return part_target

    if target is not None:
        add(target)
    return add


def _add(part: Part) -> None:
    if not isinstance(part.target, str):
        _check_signature(part)
    key = (part.group, part.name)
    if part.plugin is not None and not any(known.plugin is None for known in _parts.values()):
        import_module(_OWN)
    known = _parts.get(key)
    if known is not None and not _is_same(known, part):
        ours = "segtune itself" if known.plugin is None else f"plugin '{known.plugin.name}'"
        place = part.plugin.source if part.plugin else _OWN
        raise ConfigError(
            f"{place}: the {part.group} '{part.name}' is registered by {ours} already "
            f"({_place(known.target)}). Give it another name."
        )
    _parts[key] = part


def _is_same(known: Part, part: Part) -> bool:
    """Return whether a part is registered again, as by a cell of a notebook that runs twice."""
    if known.plugin is None or part.plugin is None:
        return known == part
    return known.plugin.name == part.plugin.name and _place(known.target) == _place(part.target)


def _place(target: Any) -> str:
    if isinstance(target, str):
        return target
    return f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', '?')}"


def find(group: str, name: str, key: str = "") -> Part:
    """Return a part by its name.

    Args:
        key: of the config, for the message.

    Raises:
        ConfigError: no such part; names the nearest one, and says how to load a plugin.
    """
    known = parts(group)
    if name in known:
        return known[name]
    raise ConfigError(
        f"{key or group}={name}: no such {group}; {nearest(name, known)} "
        f"(for the {group} of a plugin, give plugins=FILE.py or plugins=package.module on the "
        "command line, or set SEGTUNE_PLUGINS)"
    )


def parts(group: str) -> dict[str, Part]:
    """Return the parts of a group by their names: ours, and those of all loaded plugins."""
    import_module(_OWN)
    for prepare in _before_lookup:
        prepare()
    return {name: part for (of_group, name), part in _parts.items() if of_group == group}


def own_names(group: str) -> tuple[str, ...]:
    """Return the names of our own parts of a group; no plugin is loaded for that."""
    import_module(_OWN)
    own = (part for part in _parts.values() if part.plugin is None and part.group == group)
    return tuple(part.name for part in own)


def before_lookup(prepare: Callable[[], None]) -> None:
    """Have a function called before parts are looked up, such as the loader of plugins."""
    _before_lookup.append(prepare)


def plugin_parts() -> Iterator[Part]:
    """Yield all parts that plugins registered."""
    yield from (part for part in list(_parts.values()) if part.plugin is not None)


def _check_signature(part: Part) -> None:
    """Refuse a part that segtune cannot call in the form of its group.

    Raises:
        ConfigError: too few parameters, or an option without a default.
    """
    where, form = f"register('{part.group}', '{part.name}')", GROUPS[part.group].form
    if not callable(part.target):
        raise ConfigError(f"{where}: {part.target!r} is no function or class; expected is {form}.")
    methods = GROUPS[part.group].methods
    missing = [name for name in methods if not callable(getattr(part.target, name, None))]
    if missing:
        raise ConfigError(f"{where}: it has no {' and no '.join(missing)}; expected is a {form}.")
    given, options, _ = _split(part.group, part.target)
    number = _given(part.group, part.target)
    if given < number:
        name = getattr(part.target, "__name__", "it")
        raise ConfigError(
            f"{where}: {name} takes {given} of the {number} arguments that segtune gives; "
            f"expected is {form}."
        )
    for parameter in options if not methods else ():
        if parameter.default is parameter.empty and parameter.kind != parameter.VAR_KEYWORD:
            raise ConfigError(
                f"{where}: its option '{parameter.name}' has no default. The options of a part are "
                f"its settings, and each needs one; expected is {form}."
            )


def _given(group: str, target: Any) -> int:
    contract = GROUPS[group]
    return contract.given_to_class if inspect.isclass(target) else contract.given


def _split(group: str, target: Any) -> tuple[int, list[inspect.Parameter], set[str]]:
    """Return the number of given arguments that a target takes, its options, and its context."""
    number = _given(group, target)
    try:
        parameters = list(_signature(target).parameters.values())
    except ValueError:  # written in C: no signature is known
        return number, [], set()
    context = {p.name for p in parameters} & set(GROUPS[group].context)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    first = {p.name for p in positional[:number]}
    options = [
        p
        for p in parameters
        if p.name not in first | context and p.kind != inspect.Parameter.VAR_POSITIONAL
    ]
    return number if takes_any else len(first), options, context


def _signature(target: Any) -> inspect.Signature:
    try:
        return inspect.signature(target, eval_str=True)
    except NameError:  # an annotation that only a type checker imports
        return inspect.signature(target)
