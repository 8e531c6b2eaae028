"""Propose the keys of a dataset's config from what its folder holds."""

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from segtune.classes import ClassTable
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.proposal.choice import Answer, Ask, choose, setting_words
from segtune.data.proposal.coding import codings
from segtune.data.proposal.dividing import Division, divisions, group_settings
from segtune.data.proposal.given import refuse_given
from segtune.data.proposal.pairing import Pairing, pairings, refuse_shifted
from segtune.data.proposal.scan import MaskFacts, scan
from segtune.data.proposal.stated import stated_pairing
from segtune.data.proposal.tables import Entry, Table, tables_in
from segtune.data.proposal.two_values import Coding
from segtune.data.reading.images import MASK_SUFFIXES
from segtune.data.source.files import walk
from segtune.data.source.patterns import SPLIT
from segtune.errors import DataError
from segtune.runtime.log import Log, silent

_LAYOUT = ("images", "masks", "image_suffix", "mask_suffix", "folder_names")
_CODING = ("mask_format", "label_map", "reduce_zero_label", "ignore_colors", "thin_classes")
_SHOWN = 3


@dataclass(frozen=True)
class Proposal:
    """How a folder is understood.

    Attributes:
        settings: keys of the dataset's config that the user did not give.
        evidence: what was seen, a line each.
        left_out: images without a mask, which an import leaves out.
    """

    root: Path
    settings: dict[str, Any]
    evidence: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """The words of the command line that say it."""
        return setting_words(self.settings)

    def lines(self) -> list[str]:
        """What was understood and why, for people."""
        said = shlex.join(self.words()) or "nothing but the defaults"
        return [f"understood as: {said}", *(f"  {line}" for line in self.evidence)]


def propose(
    config: DatasetConfig, given: Collection[str], say: Log = silent, ask: Ask | None = None
) -> Proposal | None:
    """How the folder of a dataset can be read; None if no images with masks are found.

    Args:
        given: keys of the dataset that the user gave: they stay, and what contradicts them is not
            proposed.
        ask: asks the user to choose between readings that are about as likely.

    Raises:
        ConfigError: several readings are about as likely, and nobody can be asked.
        DataError: the masks hold no classes that can be told, or a given folder does not exist.
    """
    assert config.root is not None
    root = Path(config.root).expanduser().absolute()
    likely = _given_pairings(root, config, given)
    if not likely:
        refuse_given(root, config, given)
        return None
    readings = _readings(root, likely, config, given, say)
    answers = [_answer(pairing, coding, given, readings) for pairing, coding in readings]
    pairing, coding = readings[choose(str(root), answers, ask)]
    if not {"images", "masks"} & set(given):
        refuse_shifted(root, pairing)
    division = _division(root, pairing, given, ask)
    group, group_notes = group_settings(pairing)
    settings = {**_layout(pairing), **coding.settings, **division.settings, **group}
    kept = {key: value for key, value in settings.items() if key not in given}
    evidence = [*_pair_notes(root, pairing), coding.evidence, *division.notes, *group_notes]
    left_out = tuple(file.path for file in pairing.lonely)
    return Proposal(root, kept, tuple(evidence), left_out)


def _division(root: Path, pairing: Pairing, given: Collection[str], ask: Ask | None) -> Division:
    """How the images are split, as the given keys say, else as the files do.

    Raises:
        ConfigError: two folders or lists have names of one split, and nobody can be asked.
    """
    found = divisions(root, pairing)
    if {"splits", "folder_names"} & set(given):
        settings = {key: v for key, v in found[0].settings.items() if key != "splits"}
        return Division(settings, ["splits as the given keys say"])
    answers = [Answer(setting_words(way.settings), way.notes[0]) for way in found]
    return found[choose(str(root), answers, ask)]


def _layout(pairing: Pairing) -> dict[str, Any]:
    """The settings of a pairing that differ from the defaults."""
    defaults = {"images": f"images/{SPLIT}", "masks": f"masks/{SPLIT}"}
    return {k: v for k, v in pairing.settings.items() if v != defaults.get(k)}


def _given_pairings(root: Path, config: DatasetConfig, given: Collection[str]) -> list[Pairing]:
    """The likely pairings that agree with the given keys, or the one that these state."""
    if "images" in given and "masks" in given:
        stated = stated_pairing(root, config)
        return [stated] if stated else []
    stated_keys = [key for key in _LAYOUT[:4] if key in given]
    likely = []
    for pairing in pairings(root):
        if all(getattr(pairing, key) == getattr(config, key) for key in stated_keys):
            likely.append(pairing)
    return likely


def _readings(
    root: Path, likely: Sequence[Pairing], config: DatasetConfig, given: Collection[str], say: Log
) -> list[tuple[Pairing, Coding]]:
    """Each pairing with each way to read its masks.

    Raises:
        DataError: there is none; it is that of the first pairing.
    """
    readings, faults = [], []
    for pairing in likely:
        facts = scan(root, [mask.path for _, mask in pairing.pairs], say)
        try:
            found = _codings(root, pairing, facts, config, given)
        except DataError as error:
            faults.append(error)
            continue
        readings += [(pairing, coding) for coding in found]
    if not readings:
        raise DataError(f"'{root}' ({_pairs(likely[0])}): {faults[0]}")
    return readings


def _codings(
    root: Path,
    pairing: Pairing,
    facts: Sequence[MaskFacts],
    config: DatasetConfig,
    given: Collection[str],
) -> list[Coding]:
    """The ways to read masks that agree with the given keys.

    Raises:
        DataError: no way fits.
    """
    if config.classes is not None:
        table = _given_table(config)
        if set(_CODING) & set(given):
            return [Coding({}, "masks are read as the given keys say")]
        return codings(facts, table, is_given=True)
    found = _by_tables(root, pairing, facts)
    agreed = [coding for coding in found if _agrees(coding, config, given)]
    return agreed or [Coding({"classes": found[0].settings["classes"]}, "masks as given")]


def _agrees(coding: Coding, config: DatasetConfig, given: Collection[str]) -> bool:
    """Whether a way to read masks is that of the keys that the user gave."""
    defaults = DatasetConfig(name="folder", source="folder")
    for key in set(_CODING) & set(given):
        if coding.settings.get(key, getattr(defaults, key)) != getattr(config, key):
            return False
    return True


def _by_tables(root: Path, pairing: Pairing, facts: Sequence[MaskFacts]) -> list[Coding]:
    """The ways to read masks with each table of classes below root that fits.

    Raises:
        DataError: no way fits; it is that of the first table.
    """
    stems = frozenset(PurePosixPath(image.path).stem for image, _ in pairing.pairs)
    tables = tables_in(root, stems)
    if not tables:
        return codings(facts, None, is_given=False)
    found: list[Coding] = []
    faults: list[DataError] = []
    for table in tables:
        try:
            found += codings(facts, table, is_given=False)
        except DataError as error:
            faults.append(error)
    if not found:
        raise faults[0]
    return found


def _given_table(config: DatasetConfig) -> Table:
    assert config.classes is not None
    entries = []
    for row, parsed in zip(config.classes, ClassTable.parse(config.classes).classes, strict=True):
        has_color = isinstance(row, dict) and bool(row.get("color"))
        entries.append(Entry(parsed.name, None, parsed.color if has_color else None))
    return Table("", tuple(entries))


def _answer(
    pairing: Pairing,
    coding: Coding,
    given: Collection[str],
    readings: Sequence[tuple[Pairing, Coding]],
) -> Answer:
    """The words in which a reading differs from others."""
    settings = {**pairing.settings, **coding.settings}
    if all(other is pairing for other, _ in readings):
        settings = dict(coding.settings)
        if not settings.get("mask_format"):
            settings["mask_format"] = "index"
    elif len({id(other) for other, _ in readings}) == len(readings):
        settings = dict(pairing.settings)
    kept = {key: value for key, value in settings.items() if key not in given}
    return Answer(setting_words(kept), f"{_pairs(pairing)}; {coding.evidence}")


def _pairs(pairing: Pairing) -> str:
    image, mask = pairing.pairs[0]
    return f"{len(pairing.pairs)} images with masks, as '{image.path}' with '{mask.path}'"


def _pair_notes(root: Path, pairing: Pairing) -> list[str]:
    """Notes on the pairs, and on the files that are in no pair."""
    notes = [_pairs(pairing)]
    labelled = {image.split for image, _ in pairing.pairs}
    lonely = [file.path for file in pairing.lonely if file.split in labelled]
    if lonely:
        notes.append(f"{len(lonely)} images without a mask: {_first(lonely)}")
    if pairing.lonely_masks:
        paths = [file.path for file in pairing.lonely_masks]
        notes.append(f"{len(paths)} masks without an image: {_first(paths)}")
    used = {file.path for pair in pairing.pairs for file in pair}
    used |= {file.path for file in (*pairing.lonely, *pairing.lonely_masks)}
    others = Counter[str]()
    for file in walk(root, MASK_SUFFIXES):
        if file not in used:
            path = PurePosixPath(file)
            others[f"{path.suffix} in {path.parent}"] += 1
    if others:
        rows = [f"{count} {place}" for place, count in others.most_common(_SHOWN)]
        more = ", …" if len(others) > _SHOWN else ""
        notes.append(f"{others.total()} other files are not used: {', '.join(rows)}{more}")
    return notes


def _first(paths: Sequence[str]) -> str:
    shown = ", ".join(f"'{path}'" for path in paths[:_SHOWN])
    return f"{shown}, …" if len(paths) > _SHOWN else shown
