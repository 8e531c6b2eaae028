"""Composition of a run: overrides in, a checked `RunConfig` out, with the origin of each value."""

import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import yaml

from segtune.config.commands import chosen_dataset, command
from segtune.config.composition import compose_groups, key_files
from segtune.config.conf_files import load_template, members, template_without_file
from segtune.config.keys import GROUPS, TextKind, check_key, flatten, text_kind, validate
from segtune.config.renamed import announce, keys_of
from segtune.config.schema import RunConfig
from segtune.config.template import Template, parse_template
from segtune.config.used_parts import with_checked_parts
from segtune.config.words import Word, assign, read_value, split_word
from segtune.errors import ConfigError, nearest
from segtune.runtime.addresses import move_passwords
from segtune.runtime.quoting import unquoted


@dataclass(frozen=True)
class Composed:
    """A checked run: the config, its template, and the words that it was composed from.

    Attributes:
        choices: group -> chosen member.
        overrides: the user's words, as given.
    """

    config: RunConfig
    template: Template
    choices: Mapping[str, str]
    overrides: tuple[str, ...]

    @property
    def origins(self) -> dict[str, str]:
        """Dotted key -> `command line`, a file of a conf folder, the template, or `default`."""
        word_keys = {split_word(word).key for word in self.overrides} - set(GROUPS)
        files = key_files(self.choices)
        origins = {}
        for key, _ in flatten(self.config.model_dump()):
            # a word or a file may set a whole section
            sections = [key.rsplit(".", n)[0] for n in range(key.count(".") + 1)]
            if word_keys.intersection(sections):
                origins[key] = "command line"
            elif files.keys() & set(sections):
                origins[key] = next(files[s] for s in sections if s in files)
            else:
                is_hyperparameter = key.startswith("hp.")
                origins[key] = f"template {self.template.name}" if is_hyperparameter else "default"
        return origins


def compose(overrides: Sequence[str] = ()) -> Composed:
    """Compose and check one run from overrides such as `template=unet` or `hp.num_epochs=5`.

    A key that holds text takes the text after `=` as it is; any other value is read in Hydra's
    syntax.

    Raises:
        ConfigError: an unknown group, member, key or hyperparameter (with the nearest name), a
            wrong type, or a value out of range.
    """
    announce(keys_of(overrides))
    overrides = move_passwords(overrides)
    group_words: list[Word] = []
    value_words: list[Word] = []
    for word in map(split_word, overrides):
        if word.key in GROUPS:
            group_words.append(_choice(word))
        else:
            check_key(word.key)
            (group_words if word.raw is None else value_words).append(word)
    values, choices = _composed_groups(group_words)
    template = parse_template(values["template"])
    config = _checked_config(values, value_words, template)
    dataset = config.dataset.chosen_by(chosen_dataset(choices["dataset"], overrides))
    config = config.model_copy(update={"dataset": dataset})
    return Composed(config, template, choices, tuple(overrides))


def _checked_config(values: dict[str, Any], words: Sequence[Word], template: Template) -> RunConfig:
    """Apply the words to composed values, and check the result."""
    from omegaconf import OmegaConf

    read_words = [replace(w, value=read_value(w, _text_kind(w, template))) for w in words]
    with _clear_errors():
        tree = OmegaConf.create(values)  # once: it takes a third of the time of a composition
        for word in read_words:
            assign(tree, word)
        hyperparameters = template.resolve(_resolved_hp(tree.hp, template))
        tree.hp = {name: _escaped(value) for name, value in hyperparameters.items()}
        resolved = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    config = validate(typing.cast(dict[str, Any], resolved))
    _check_kind(config, template)
    config = with_checked_parts(config)
    if config.trainer.minutes and any(w.key == "hp.num_epochs" for w in words):
        raise ConfigError(
            f"hp.num_epochs and trainer.minutes={config.trainer.minutes:g} cannot be combined, "
            "because minutes chooses the epochs: leave one of them out (trainer.minutes=null takes "
            "the time limit away)."
        )
    return config


def _choice(word: Word) -> Word:
    """Return the word that chooses a member of a group, after a check that the member exists."""
    name = unquoted(word.raw or "")
    if name in members(word.key):
        return replace(word, value=name)
    if "," in name or name.startswith(("choice(", "glob(")):
        raise ConfigError(
            f"{word.text!r} lists several values; a run takes one. "
            f"To search: {command('sweep', 'NAME')}"
        )
    raise ConfigError(f"{word.key}={name}: no such {word.key}; {nearest(name, members(word.key))}")


def _composed_groups(words: Sequence[Word]) -> tuple[dict[str, Any], dict[str, str]]:
    """Compose the groups; a plugin's template has no file, and replaces the default template."""
    chosen = [w.value for w in words if w.key == "template" and w.raw is not None]
    template = template_without_file(chosen[-1]) if chosen else None
    if template is None:
        return compose_groups(tuple(map(_hydra_word, words)))
    others = [word for word in words if word.key != "template"]
    values, choices = compose_groups(tuple(map(_hydra_word, others)))
    return {**values, "template": template}, {**choices, "template": template["name"]}


def _hydra_word(word: Word) -> str:
    return word.text if word.raw is None else f"{word.key}={word.value}"


def _text_kind(word: Word, template: Template) -> TextKind | None:
    """Return how a key takes text: the schema says it, for a hyperparameter its declaration."""
    if word.path[0] != "hp":
        return text_kind(RunConfig, word.path)
    declared = template.hyperparameters.get(".".join(word.path[1:]))
    if declared is None or not declared.is_text:
        return None
    return TextKind(optional=True, structured=False)


def _check_kind(config: RunConfig, template: Template) -> None:
    """Check that template, kind, loss and labeler fit together."""
    if "masks" in config.loss.terms and template.model.get("architecture") != "Eomt":
        raise ConfigError(
            f"loss.terms.masks compares queries, and template={template.name} has none; take eomt."
        )
    if template.kind != config.kind:
        fitting = [n for n in members("template") if load_template(n).kind == config.kind]
        raise ConfigError(
            f"template={template.name} makes a {template.kind}, but kind={config.kind}: set "
            f"kind={template.kind}, or take a template for it: {', '.join(fitting)}."
        )
    if (config.labeler is None) == (config.kind == "labeler"):
        raise ConfigError(
            "labeler.concept belongs to kind=labeler: give both, as "
            "kind=labeler labeler.concept=car."
        )


def _resolved_hp(hp: Any, template: Template) -> dict[str, Any]:
    """Return the chosen hyperparameters; interpolations (`${oc.env:EPOCHS}`) become values.

    Args:
        hp: the section `hp` of the whole OmegaConf tree.
    """
    from omegaconf import OmegaConf

    chosen = typing.cast(dict[str, Any], OmegaConf.to_container(hp, resolve=False))
    resolved = typing.cast(dict[str, Any], OmegaConf.to_container(hp, resolve=True))
    for name, value in chosen.items():
        declared = template.hyperparameters.get(name)
        is_interpolated = isinstance(value, str) and "${" in value
        if is_interpolated and declared is not None and not declared.is_text:
            text = resolved[name]
            if isinstance(text, str):  # an environment variable is text: read it as YAML
                resolved[name] = OmegaConf.create(f"value: {text}").value
    return {str(name): value for name, value in resolved.items()}


def _escaped(value: Any) -> Any:
    """Return a resolved value in a form that is not resolved again."""
    return value.replace("${", "\\${") if isinstance(value, str) else value


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Raise OmegaConf's errors as ConfigError."""
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        yield
    except MissingMandatoryValue as error:
        key = error.full_key
        raise ConfigError(f"{key} has no value: give it, as {key}=…") from None
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(_reason(error)) from None


def _reason(error: Any) -> str:
    """Return OmegaConf's message, with the key and a hint for a missing environment variable."""
    key = getattr(error, "full_key", None)
    reason = str(error).splitlines()[0]
    reason = reason.removeprefix("KeyError raised while resolving interpolation: ").strip('"')
    if "nvironment variable" in reason:
        reason += ". Set it, or give a default: ${oc.env:NAME,DEFAULT}."
    return f"{key}: {reason}" if key else reason
