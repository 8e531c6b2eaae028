"""Refuse keys of a config that the format of the annotations does not use."""

from collections.abc import Mapping, Sequence
from typing import Any

from segtune.config.dataset_schema import AnnotationsConfig, DatasetConfig
from segtune.data.formats.areas import annotation_options
from segtune.data.formats.declaration import STORED_MASKS, Declaration
from segtune.errors import ConfigError

_OF_FOLDERS = ("images", "masks", "folder_names", "image_suffix", "mask_suffix", "finer")
_OF_IMAGES = ("value_range", "bands", "page")


def refuse_unused_options(
    config: DatasetConfig, name: str, known: Mapping[str, Declaration]
) -> None:
    """Refuse keys of `dataset.annotations` that a format does not use.

    Args:
        name: the format that is read.
        known: name -> declaration of every format.

    Raises:
        ConfigError: a key has another value than its default, and no effect.
    """
    options, defaults = annotation_options(config), AnnotationsConfig()
    for key in AnnotationsConfig.model_fields:
        value = getattr(options, key)
        if key == "format" or value == getattr(defaults, key):
            continue
        for use in (key, "z") if value == "z" else (key,):
            if not known[name].uses(use):
                raise _unused(f"annotations.{key}={_text(value)}", name, _users(known, use))


def refuse_unused_keys(config: DatasetConfig, name: str, known: Mapping[str, Declaration]) -> None:
    """Refuse keys of `dataset` that an import of a format does not use.

    Raises:
        ConfigError: see `refuse_unused_options`.
    """
    defaults = DatasetConfig(name=config.name, source=config.source)
    for key in (*STORED_MASKS, *_OF_FOLDERS, *_OF_IMAGES):
        value = getattr(config, key)
        if value == getattr(defaults, key) or known[name].uses(key):
            continue
        if key in _OF_IMAGES:
            raise ConfigError(
                f"dataset.{key}={_text(value)}: an import copies images as they are. Leave it out, "
                "and give it to check and train."
            )
        users = ["folder"] if key in _OF_FOLDERS else ["folder", *_users(known, key)]
        raise _unused(f"dataset.{key}={_text(value)}", name, users)


def _users(known: Mapping[str, Declaration], key: str) -> list[str]:
    return [name for name, declaration in known.items() if declaration.uses(key)]


def _unused(text: str, name: str, users: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"{text} has no effect on the format {name}. It is for {', '.join(users)}. Leave it out, "
        "or choose the format with format=NAME."
    )


def _text(value: Any) -> str:
    return str(value).replace("'", "")
