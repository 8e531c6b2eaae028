"""Words of the command line: text as the shell passes it, other values in Hydra's syntax."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segtune.config.commands import command
from segtune.config.keys import Model, SettingsT, TextKind, parse_settings, text_kind
from segtune.config.renamed import current_word
from segtune.errors import ConfigError
from segtune.runtime.quoting import quoted, unquoted

_KEY = re.compile(r"[\w/@-]+(\.[\w/@-]+)*")


@dataclass(frozen=True)
class Word:
    """A word of the command line, taken apart.

    Attributes:
        text: as given, with the present name of its key.
        path: the parts of the key; after `assignments`, without the prefix.
        raw: the text after `=`; None for `~key`, which removes a key.
        value: the value that was read; None before.
    """

    text: str
    path: tuple[str, ...]
    raw: str | None
    value: Any = None

    @property
    def key(self) -> str:
        """The dotted key."""
        return ".".join(self.path)


def split_word(text: Any) -> Word:
    """Split a word into its key and its unread value.

    Raises:
        ConfigError: the word is not `key=value`.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{text!r} is no text: give key=value, e.g. hp.num_epochs=5.")
    text = current_word(text)
    key, equals, raw = text.partition("=")
    is_deletion = key.startswith("~")
    key = key.lstrip("+~").strip()
    if not _KEY.fullmatch(key) or not (equals or is_deletion):
        raise ConfigError(f"{text!r} is not key=value, e.g. hp.num_epochs=5.")
    return Word(text, tuple(key.split(".")), None if is_deletion else raw)


def read_value(word: Word, kind: TextKind | None) -> Any:
    """Read the value of a word: text as it is if the key takes text, else in Hydra's syntax.

    Raises:
        ConfigError: the value cannot be read (with the quoted form), or there are several values.
    """
    raw = word.raw or ""
    try:
        raw.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{word.text!r} is not valid UTF-8: rename the file or folder, or give a link to it."
        ) from None
    if kind is None:
        return _hydra_value(word, raw)
    if kind.optional and raw == "null":
        return None
    if kind.structured and raw[:1] in ("{", "["):
        return _hydra_value(word, raw)
    return literal(unquoted(raw))


def literal(text: str) -> str:
    """Escape `${` in text, unless it begins an interpolation such as `${oc.env:HOME}/data`."""
    from omegaconf.errors import GrammarParseError
    from omegaconf.grammar_parser import parse

    if "${" not in text:
        return text
    try:
        parse(text)
    except GrammarParseError:
        return text.replace("${", "\\${")
    return text


def _hydra_value(word: Word, raw: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(f"{word.key}={raw}")
        is_sweep = override.is_sweep_override()
        value = None if is_sweep else override.value()
    except (HydraException, ValueError, RecursionError) as error:
        reason, hint = str(error).splitlines()[0], _quoting_hint(word, raw)
        raise ConfigError(
            f"{word.text!r} cannot be read: {reason}. In Hydra's syntax, {hint}"
        ) from None
    if is_sweep:
        raise ConfigError(
            f"{word.text!r} lists several values; a run takes one. "
            f"To search: {command('sweep', 'NAME')}"
        )
    return value


def _quoting_hint(word: Word, raw: str) -> str:
    if raw[:1] not in ("[", "{"):
        return f"text needs quotes of its own here: {word.key}={quoted(raw)}"
    example = "['a b',c]" if raw[0] == "[" else "{'a b': c}"
    return (
        "inside lists and mappings, quote text that is more than a plain word: "
        f"{word.key}={example}"
    )


def assignments(model: Model | None, texts: Sequence[str], prefix: str) -> list[Word]:
    """Read words whose keys all begin with a prefix; the paths of the result lack it.

    Args:
        model: settings below the prefix; None reads all values in Hydra's syntax.

    Raises:
        ConfigError: another prefix, or a word that cannot be read.
    """
    words = []
    for text in texts:
        word = split_word(text)
        if word.path[0] != prefix:
            raise ConfigError(f"{text!r}: only {prefix}.KEY=VALUE is allowed here.")
        if word.raw is None:
            raise ConfigError(f"{text!r}: ~ removes only keys of a run; give {word.key}=VALUE.")
        path = word.path[1:]
        kind: TextKind | None = TextKind(optional=False, structured=False)  # PREFIX=NAME
        if path:
            kind = None if model is None else text_kind(model, path)
        words.append(Word(text, path, word.raw, read_value(word, kind)))
    return words


def changed(settings: SettingsT, texts: Sequence[str], prefix: str) -> SettingsT:
    """Apply `PREFIX.KEY=VALUE` words to settings.

    Raises:
        ConfigError: an unknown key, a wrong value, or a word that cannot be read.
    """
    from omegaconf import OmegaConf

    model, values = type(settings), OmegaConf.create(settings.model_dump(mode="json"))
    for word in assignments(model, texts, prefix):
        assign(values, word)
    plain = OmegaConf.to_container(values, resolve=False)
    assert isinstance(plain, dict)
    return parse_settings(model, {str(k): v for k, v in plain.items()}, prefix)


def assign(config: Any, word: Word) -> None:
    """Set a value in an OmegaConf config, in place of any earlier value."""
    from omegaconf import OmegaConf

    OmegaConf.update(config, word.key, word.value, merge=True, force_add=True)
