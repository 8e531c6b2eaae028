"""Complete the config of a folder dataset with what its files say, where the user did not."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segtune.errors import SegtuneError
from segtune.runtime.log import Log, silent

if TYPE_CHECKING:
    from segtune.config.dataset_schema import DatasetConfig
    from segtune.data.proposal.choice import Ask
    from segtune.data.proposal.proposal import Proposal


def completed(
    overrides: Sequence[str], say: Log = silent, ask: "Ask | None" = None
) -> tuple[list[str], "Proposal | None"]:
    """The overrides of a run with the keys of its dataset that were not given, and why.

    Only `dataset=folder` without `classes.yaml` is completed, and only where classes are missing or
    the given keys pair no images with masks.

    Args:
        say: prints each line of what was understood.

    Raises:
        ConfigError: the folder can be read in several ways, and nobody can be asked.
        DataError: the masks of the folder hold no classes that can be told.
    """
    from segtune.config.compose import compose
    from segtune.data.proposal.proposal import propose

    composed = compose(overrides)
    config = composed.config.dataset
    if composed.choices["dataset"] != "folder" or not _is_open(config):
        return list(overrides), None
    proposal = propose(config, given_keys(config), say, ask)
    if proposal is None:
        return list(overrides), None
    for line in proposal.lines():
        say(line)
    return [*overrides, *proposal.words()], proposal


def checked_sweep(name: str, overrides: Sequence[str], say: Log) -> list[str]:
    """The overrides of a sweep with the missing keys of its dataset.

    A faulty file and a missing dataset are refused before the heavy libraries are loaded.
    """
    from segtune.config.compose import compose
    from segtune.data.source.places import check_place
    from segtune.sweeping.spec import load_spec

    base = load_spec(name, overrides).base
    words, _ = completed(base, say)
    check_place(compose(words).config.dataset)
    return [*overrides, *words[len(base) :]]


def given_keys(config: "DatasetConfig") -> set[str]:
    """The keys of a composed dataset that words of the command line set."""
    keys = [text.lstrip("+~").partition("=")[0].split(".") for text in config.words]
    return {key[1] for key in keys if len(key) > 1}


def _is_open(config: "DatasetConfig") -> bool:
    """Whether the folder exists and cannot be read with the keys alone."""
    from segtune.config.dataset_schema import CLASSES_FILE

    root = Path(config.root or "").expanduser()
    if not config.root or not root.is_dir() or (root / CLASSES_FILE).is_file():
        return False
    if config.table is not None or config.fixes is not None:
        return False
    return config.classes is None or not _pairs_images(config)


def _pairs_images(config: "DatasetConfig") -> bool:
    """Whether the keys pair images with masks in any split."""
    from segtune.data.sources import open_source

    try:
        source = open_source(config)
        for split in source.splits():
            masks = source.mask_files(split)
            if any(name in masks for name, _ in source.all_images(split)):
                return True
    except SegtuneError:
        pass  # the finder may still read the folder; else this error comes again
    return False
