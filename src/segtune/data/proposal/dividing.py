"""Find how a set is split, by folders or lists, and which images its names group."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
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


def split_settings(root: Path, pairing: Pairing) -> tuple[dict[str, Any], list[str]]:
    """The keys that say how the images are split, and notes on it."""
    if SPLIT in pairing.images:
        return _by_folders(pairing)
    by_pattern = _lists(root, pairing)
    for pattern, counts in by_pattern.items():
        chosen = _chosen_lists(counts)
        if chosen is not None:
            return _list_settings(pattern, chosen, counts)
    settings, notes = _divided("no folder or list names a split", pairing)
    return settings, notes + _unused_lists(by_pattern, pairing)


def _divided(reason: str, pairing: Pairing) -> tuple[dict[str, Any], list[str]]:
    if len(pairing.pairs) < 2:
        return {}, [f"{reason}; one image cannot be divided"]
    return {"splits": {"val": 0.2}}, [f"{reason}: a fifth of the images become val"]


def _by_folders(pairing: Pairing) -> tuple[dict[str, Any], list[str]]:
    texts = {image.split: split_of(image.split) for image, _ in pairing.pairs}
    counts = Counter(texts[image.split] for image, _ in pairing.pairs)
    settings: dict[str, Any] = {}
    if any(text != split for text, split in texts.items()):
        settings["folder_names"] = {split: text for text, split in sorted(texts.items())}
    notes = [f"splits by folder: {_counted(counts)}"]
    unlabelled = Counter(f.split for f in pairing.lonely if f.split not in texts)
    notes += [f"{text}: {n} images without masks" for text, n in sorted(unlabelled.items())]
    if "val" not in counts:
        more, words = _divided("there is no folder of val", pairing)
        return {**settings, **more}, notes + words
    return settings, notes


def _lists(root: Path, pairing: Pairing) -> dict[str, dict[str, int]]:
    """Pattern of lists -> stem of a list -> images that it names; most lists first."""
    names = {_inside(image.path, pairing): image.path for image, _ in pairing.pairs}
    finder = NameFinder({name: PurePosixPath(path).name for name, path in names.items()})
    by_pattern: dict[str, dict[str, int]] = {}
    for file in walk(root, (".txt", ".lst", ".csv")):
        stem = PurePosixPath(file).stem
        if split_of(stem) not in SPLITS and stem not in ("trainval", "train_val"):
            continue
        count = _named_images(root / file, finder)
        if count:
            pattern = f"{file[: file.rindex(stem)]}{SPLIT}{PurePosixPath(file).suffix}"
            by_pattern.setdefault(pattern, {})[stem] = count
    return dict(sorted(by_pattern.items(), key=lambda row: -len(row[1])))


def _unused_lists(by_pattern: Mapping[str, Mapping[str, int]], pairing: Pairing) -> list[str]:
    """Notes on lists of a split that have no list of train or of a held-out split beside them."""
    notes = []
    for pattern, counts in by_pattern.items():
        for stem, count in counts.items():
            missing = "val or test" if split_of(stem) not in ("val", "test") else "train"
            notes.append(
                f"'{pattern.replace(SPLIT, stem)}' names {count} of {len(pairing.pairs)} images, "
                f"but there is no list of {missing} beside it: it is not used. Write that list"
            )
    return notes


def _inside(path: str, pairing: Pairing) -> str:
    folder = pairing.images if "{" not in pairing.images else ""
    return path[len(folder) :].lstrip("/").rpartition(".")[0] if folder else path.rpartition(".")[0]


def _named_images(path: Path, finder: NameFinder) -> int:
    """How many images a list names; 0 where too few of its lines name one."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return 0
        lines = read_list(path)
    except DataError:
        return 0
    named = sum(len(finder.find(line)) == 1 for line in lines)
    return named if named >= _LISTED_SHARE * max(1, len(lines)) else 0


def _chosen_lists(counts: Mapping[str, int]) -> dict[str, str] | None:
    """Split -> stem of its list; without a list of val, that of test is val."""
    by_split = {split_of(stem): stem for stem in counts if split_of(stem) in SPLITS}
    whole = next((s for s in ("trainval", "train_val") if s in counts), None)
    if "train" in by_split and "val" in by_split:
        return {split: by_split[split] for split in SPLITS if split in by_split}
    train = by_split.get("train") or whole
    held_out = by_split.get("val") or by_split.get("test")
    return {"train": train, "val": held_out} if train and held_out else None


def _list_settings(
    pattern: str, chosen: Mapping[str, str], counts: Mapping[str, int]
) -> tuple[dict[str, Any], list[str]]:
    settings: dict[str, Any] = {"splits": {"lists": pattern}}
    are_plain = all(split == stem for split, stem in chosen.items())
    if not are_plain or len(counts) > len(chosen):
        settings["folder_names"] = dict(chosen)
    rows = Counter({split: counts[stem] for split, stem in chosen.items()})
    notes = [f"splits by the lists {pattern}: {_counted(rows)}"]
    if split_of(chosen["val"]) == "test":
        notes.append(f"there is no list of val: '{chosen['val']}' is taken for it")
    return settings, notes


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
