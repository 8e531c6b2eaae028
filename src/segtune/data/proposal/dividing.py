"""Find how a set is split, by folders or lists, and which images its names group."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

from segtune.data.proposal.pairing import Pairing
from segtune.data.proposal.stacks import File
from segtune.data.proposal.words import split_of, words_in
from segtune.data.source.files import walk
from segtune.data.source.lists import NameFinder, read_list
from segtune.data.source.patterns import NAME, SPLIT
from segtune.data.source.split_words import SPLITS
from segtune.errors import DataError

_MOST_BYTES = 50_000_000
_LISTED_SHARE = 0.8  # share of the lines of a list that must name an image
_WHOLE = ("trainval", "train_val")  # lists of train and val together
_FEWEST_GROUPS = 5
_GROUPS = {
    "copies of one photo": r"^.+?(?=(?:_(?:jpg|jpeg|png))?\.rf\.)",
    "parts of one photo": (
        r"^.+?(?=[_-](?:(?:x?\d+[_-]y?\d+)|(?:(?:scaled|crop|tile|patch|aug|part)[_-]?\d+))$)"
    ),
    "frames of one video": r"^.+?(?=[_-]?(?:frame|frm|f)[_-]?\d+$)",
}
"""Kind of group -> expression of the group's name; it matches no other names."""

_PREFIX = r"^[^_]+"  # of a group that names only suggest


@dataclass(frozen=True)
class Division:
    """One way to split the images.

    Attributes:
        settings: the keys of the dataset's config that say it.
        notes: what was seen; the first one is the reason.
    """

    settings: dict[str, Any]
    notes: list[str]


def divisions(root: Path, pairing: Pairing) -> list[Division]:
    """The ways to split the images; several where two folders or lists have names of one split."""
    if SPLIT in pairing.images:
        return _by_folders(pairing)
    by_pattern = _lists(root, pairing)
    for pattern, lists in by_pattern.items():
        found = _by_lists(pattern, lists, pairing)
        if found:
            return found
    reason = "no folder or list names a split"
    if by_pattern:
        reason = "there are no lists of both train and val or test"
    divided = _divided(reason, pairing)
    return [Division(divided.settings, divided.notes + _unused_lists(by_pattern, pairing))]


def _divided(reason: str, pairing: Pairing) -> Division:
    if len(pairing.pairs) < 2:
        return Division({}, [f"{reason}; one image cannot be divided"])
    note = f"{reason}: a fifth of the images become val"
    return Division({"splits": {"val": 0.2}}, [note])


def _choices(names: Collection[str]) -> list[dict[str, str]]:
    """Split -> the folder or list that is called after it, for each choice among several of one.

    One that is not chosen is a split of its own.

    >>> _choices(["train", "val", "dev"])[1]
    {'train': 'train', 'val': 'dev', 'other_val': 'val'}
    """
    by_split: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in names:
        by_split.setdefault(split_of(name), []).append(name)
    by_split = {split: members for split, members in by_split.items() if members}
    choices = []
    for chosen in product(*by_split.values()):
        choice = dict(zip(by_split, chosen, strict=True))
        for name in names:
            if name not in chosen:
                choice[f"other_{name}" if name in choice else name] = name
        choices.append(choice)
    return choices


def _by_folders(pairing: Pairing) -> list[Division]:
    counts = Counter(image.split for image, _ in pairing.pairs)
    unlabelled = Counter(f.split for f in pairing.lonely if f.split not in counts)
    notes = [f"{text}: {n} images without masks" for text, n in sorted(unlabelled.items())]
    choices, found = _choices(sorted(counts)), []
    for choice in choices:
        rows = {split: counts[text] for split, text in choice.items()}
        settings: dict[str, Any] = {}
        if len(choices) > 1 or any(text != split for split, text in choice.items()):
            settings["folder_names"] = choice
        said = [f"splits by folder: {_counted(rows)}", *notes]
        if "val" not in choice:
            divided = _divided("there is no folder of val", pairing)
            settings, said = {**settings, **divided.settings}, [*said, *divided.notes]
        found.append(Division(settings, said))
    return found


def _lists(root: Path, pairing: Pairing) -> dict[str, dict[str, frozenset[str]]]:
    """Pattern of lists -> stem of a list -> images that it names; most lists first."""
    names = {_inside(image.path, pairing): image.path for image, _ in pairing.pairs}
    finder = NameFinder({name: PurePosixPath(path).name for name, path in names.items()})
    by_pattern: dict[str, dict[str, frozenset[str]]] = {}
    for file in walk(root, (".txt", ".lst", ".csv")):
        stem = PurePosixPath(file).stem
        if split_of(stem) not in SPLITS and stem not in _WHOLE:
            continue
        named = _named_images(root / file, finder)
        if named:
            pattern = f"{file[: file.rindex(stem)]}{SPLIT}{PurePosixPath(file).suffix}"
            by_pattern.setdefault(pattern, {})[stem] = named
    return dict(sorted(by_pattern.items(), key=lambda row: -len(row[1])))


def _unused_lists(
    by_pattern: Mapping[str, Mapping[str, frozenset[str]]], pairing: Pairing
) -> list[str]:
    """Notes on lists of a split that have no list of train or of a held-out split beside them."""
    notes = []
    for pattern, lists in by_pattern.items():
        for stem, named in lists.items():
            missing = "val" if split_of(stem) not in ("val", "test") else "train"
            notes.append(
                f"'{pattern.replace(SPLIT, stem)}' names {len(named)} of {len(pairing.pairs)} "
                f"images, but there is no list of {missing} beside it: it is not used, and its "
                f"images are divided as all others. To use it, write the names of the others into "
                f"'{pattern.replace(SPLIT, missing)}'"
            )
    return notes


def _inside(path: str, pairing: Pairing) -> str:
    folder = pairing.images if "{" not in pairing.images else ""
    return path[len(folder) :].lstrip("/").rpartition(".")[0] if folder else path.rpartition(".")[0]


def _named_images(path: Path, finder: NameFinder) -> frozenset[str]:
    """The images that a list names; none where too few of its lines name one."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return frozenset()
        lines = read_list(path)
    except DataError:
        return frozenset()
    found = [matches[0] for matches in map(finder.find, lines) if len(matches) == 1]
    return frozenset(found) if len(found) >= _LISTED_SHARE * max(1, len(lines)) else frozenset()


def _by_lists(
    pattern: str, lists: Mapping[str, frozenset[str]], pairing: Pairing
) -> list[Division]:
    """The ways to split the images by lists of one pattern; none without train and a held-out one.

    Without a list of val, that of test is val.
    """
    kept: dict[str, frozenset[str]] = {}
    repeated = []
    for stem, named in lists.items():
        twin = next((s for s in kept if split_of(s) == split_of(stem) and kept[s] == named), None)
        if twin is None:
            kept[stem] = named
        else:
            repeated.append(f"the list '{stem}' names the same images as '{twin}'")
    whole = next((stem for stem in _WHOLE if stem in kept), None)
    choices = [
        chosen
        for names in _choices([stem for stem in kept if stem not in _WHOLE])
        if (chosen := _with_train_and_val(names, whole)) is not None
    ]
    found = []
    for choice in choices:
        settings: dict[str, Any] = {"splits": {"lists": pattern}}
        is_plain = all(split == stem for split, stem in choice.items())
        if not is_plain or len(lists) > len(choice) or len(choices) > 1:
            settings["folder_names"] = choice
        rows = {split: len(kept[stem]) for split, stem in choice.items()}
        notes = [f"splits by the lists {pattern}: {_counted(rows)}", *repeated]
        if split_of(choice["val"]) == "test":
            notes.append(f"there is no list of val: '{choice['val']}' is taken for it")
        listed = frozenset[str]().union(*(kept[stem] for stem in choice.values()))
        unlisted = len(pairing.pairs) - len(listed)
        if unlisted:
            notes.append(f"{unlisted} images are in no list, and left out")
        found.append(Division(settings, notes))
    return found


def _with_train_and_val(names: Mapping[str, str], whole: str | None) -> dict[str, str] | None:
    """Split -> stem of its list, with a list of all but test for train; None without train or val.

    Args:
        whole: the list of train and val together, if there is one.
    """
    chosen = dict(names)
    if "train" not in chosen or "val" not in chosen:
        train = chosen.pop("train", whole)
        held_out = chosen.pop("val", None) or chosen.pop("test", None)
        if train is None or held_out is None:
            return None
        chosen = {"train": train, "val": held_out, **chosen}
    return chosen


def _counted(counts: Mapping[str, int]) -> str:
    order = [split for split in SPLITS if split in counts]
    order += sorted(set(counts) - set(order))
    return ", ".join(f"{counts[split]} {split}" for split in order)


def group_settings(pairing: Pairing) -> tuple[dict[str, Any], list[str]]:
    """The key of groups that the names state, and notes; a mere suggestion is only a note."""
    names = [_name(image, pairing) for image, _ in pairing.pairs]
    for meaning, expression in _GROUPS.items():
        groups = _groups(names, expression)
        if groups and len(groups) >= _FEWEST_GROUPS and len(groups) < len(names):
            return {"groups": expression}, [f"{len(groups)} groups by name: {meaning}"]
        if groups and 1 < len(groups) < len(names):
            return {}, [_suggestion(groups, expression)]
    groups = _groups(names, _PREFIX)
    numbered = all(re.search(r"\d$", name) for name in names)
    if groups and numbered and 1 < len(groups) <= len(names) / 3:
        return {}, [_suggestion(groups, _PREFIX)]
    return {}, []


def _name(image: File, pairing: Pairing) -> str:
    """The name of an image in its dataset, without what surrounds `{name}`."""
    if NAME not in pairing.images:
        return image.name.removesuffix(pairing.image_suffix)
    start, _, end = pairing.images.rpartition("/")[2].partition(NAME)
    return image.name.removeprefix(start).removesuffix(end.removesuffix(image.suffix))


def _suggestion(groups: Counter[str], expression: str) -> str:
    shown = ", ".join(list(groups)[:3])
    return (
        f"the names suggest {len(groups)} groups ({shown}, …). If images of one depend on each "
        f"other, as frames of a video, keep them together: 'dataset.groups=\"{expression}\"'"
    )


def _groups(names: Sequence[str], expression: str) -> Counter[str]:
    """Group -> images; empty where a name does not fit."""
    groups: Counter[str] = Counter()
    for name in names:
        match = re.search(expression, name)
        if (
            match is None
            or match[0] == name
            or not words_in(match[0]) + re.findall(r"\d", match[0])
        ):
            return Counter()
        groups[match[0]] += 1
    return groups
