"""Words of the command line as values: `key=value`, text as the shell passes it, the rest in Hydra's syntax."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segtune.config.commands import command
from segtune.config.keys import Model, SettingsT, TextKind, parse_settings, text_kind
from segtune.config.quoting import quoted, unquoted
from segtune.config.renamed import current_word
from segtune.errors import ConfigError

_KEY = re.compile(r"[\w/@-]+(\.[\w/@-]+)*")


@dataclass(frozen=True)
class Word:
    """A word of the command line, taken apart.

    Attributes:
        text: as given, with the present name of its key.
        path: the parts of the key, below the prefix where one was asked for.
        raw: what stands behind `=`; None for `~key`, which takes a key away.
        value: read in Hydra's syntax, or text; None until `with_value`.
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
    """The key of a word, and its value unread.

    Raises:
        ConfigError: not `key=value`.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{text!r} is no text: give key=value, e.g. hp.num_epochs=5.")
    text = current_word(text)
    key, equals, raw = text.partition("=")
    deleted = key.startswith("~")
    key = key.lstrip("+~").strip()
    if not _KEY.fullmatch(key) or not (equals or deleted):
        raise ConfigError(f"{text!r} is not key=value, e.g. hp.num_epochs=5.")
    return Word(text, tuple(key.split(".")), None if deleted else raw)


def read_value(word: Word, kind: TextKind | None) -> Any:
    """The value of a word: text as it is where the key takes text, else read in Hydra's syntax.

    Raises:
        ConfigError: it cannot be read, with the quoted form; or it lists several values.
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
    """Text in which OmegaConf sees an interpolation only where it is one, such as `${oc.env:HOME}/data`."""
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
        several, value = override.is_sweep_override(), None
        value = None if several else override.value()
    except (HydraException, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        if raw[:1] in ("[", "{"):
            example = f"{word.key}=['a b',c]" if raw[0] == "[" else f"{word.key}={{'a b': c}}"
            hint = (
                f"inside lists and mappings, quote text that is more than a plain word: {example}"
            )
        else:
            hint = f"text needs quotes of its own here: {word.key}={quoted(raw)}"
        raise ConfigError(
            f"{word.text!r} cannot be read: {reason}. In Hydra's syntax, {hint}"
        ) from None
    if several:
        raise ConfigError(
            f"{word.text!r} lists several values; a run takes one. To search: {command('sweep', 'NAME')}"
        )
    return value


def assignments(model: Model | None, texts: Sequence[str], prefix: str) -> list[Word]:
    """Words whose keys all begin with a prefix, with their values, keyed below it.

    Raises:
        ConfigError: another prefix, or a word that cannot be read.
    """
    found = []
    for text in texts:
        word = split_word(text)
        if word.path[0] != prefix:
            raise ConfigError(f"{text!r}: only {prefix}.KEY=VALUE is allowed here.")
        path = word.path[1:]
        if word.raw is None:
            raise ConfigError(f"{text!r}: ~ takes away keys of a run alone; give {word.key}=VALUE.")
        kind = (
            text_kind(model, path) if model and path else TextKind(optional=False, structured=False)
        )
        if path and model is None:
            kind = None
        found.append(Word(text, path, word.raw, read_value(word, kind)))
    return found


def changed(settings: SettingsT, texts: Sequence[str], prefix: str) -> SettingsT:
    """Settings with `PREFIX.KEY=VALUE` words applied.

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
    """Sets a value in an OmegaConf config, whatever stood there."""
    from omegaconf import OmegaConf

    OmegaConf.update(config, word.key, word.value, merge=True, force_add=True)
