"""Find how the names of masks follow from those of images, as `a_mask` from `a`."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from segtune.data.proposal.stacks import File, Stack

_TOKENS = re.compile(r"[^\W\d_]+|\d+|[\W_]+")
_MAX_START, _MAX_END = 2, 5  # tokens that are stripped at the start and the end of a name
_SAMPLE = 40  # names whose partners vote
_VOTES = 0.25  # share of the sample that must vote for a relation
_MOST_RELATIONS = 4
_WHOLE = 0.95  # share of equal names above which no other relation is looked for


class Affix(NamedTuple):
    """What surrounds `{name}` in the names of files."""

    start: str
    end: str


class Relation(NamedTuple):
    """The affixes of images and of their masks."""

    image: Affix
    mask: Affix

    @property
    def size(self) -> tuple[bool, int]:
        """Small for a simple relation; a separator should stand between affix and name."""
        borders = [affix.start[-1:] + affix.end[:1] for affix in self]
        is_cut = any(character.isalnum() for character in "".join(borders))
        return is_cut, sum(len(text) for affix in self for text in affix)


def names_without(stack: Stack, affix: Affix) -> dict[tuple[str, ...], File]:
    """(split, folders, name without its affix) -> file, of the files of a stack that have it.

    Of two that differ in their suffix alone, it has the first: the dataset refuses them later.
    """
    files: dict[tuple[str, ...], File] = {}
    for file in stack.files:
        name = _stripped(file.name, affix)
        if name:
            files.setdefault((file.split, *file.folders, name), file)
    return files


def relations(images: Stack, masks: Stack) -> list[Relation]:
    """The relations between the names of two stacks, the likeliest first.

    Both may be the same stack, as of `a.jpg` and `a_mask.png` in one folder.
    """
    same = Relation(Affix("", ""), Affix("", ""))
    names = {file.name for file in images.files}
    if images is not masks:
        equal = sum(file.name in names for file in masks.files)
        if equal >= _WHOLE * min(len(images.files), len(masks.files)):
            return [same]
    step = max(1, len(masks.files) // _SAMPLE)
    wanted: dict[str, list[tuple[Affix, str]]] = {}
    for file in masks.files[::step]:
        for affix, core in _cores(file.name):
            wanted.setdefault(core, []).append((affix, file.name))
    votes: Counter[Relation] = Counter()
    for name in names:
        for affix, core in _cores(name):
            for mask_affix, mask_name in wanted.get(core, ()):
                relation = Relation(affix, mask_affix)
                is_other_file = images is not masks or name != mask_name
                if is_other_file and (affix != mask_affix or relation == same):
                    votes[relation] += 1
    needed = max(1, _VOTES * min(len(masks.files[::step]), len(names)))
    likely = [relation for relation, count in votes.items() if count >= needed]
    likely.sort(key=lambda relation: (-votes[relation], relation.size))
    return _simplest(likely)[:_MOST_RELATIONS]


def _simplest(likely: Sequence[Relation]) -> list[Relation]:
    """Relations without those that say the same as a simpler one with longer affixes."""
    kept: list[Relation] = []
    for relation in sorted(likely, key=lambda r: r.size):
        if not any(_says_more(relation, simple) for simple in kept):
            kept.append(relation)
    order = {relation: place for place, relation in enumerate(likely)}
    return sorted(kept, key=lambda relation: order[relation])


def _says_more(relation: Relation, simple: Relation) -> bool:
    """Whether the affixes are those of a simpler relation with the same text added to both."""
    added = set()
    for affix, other in zip(relation, simple, strict=True):
        fits = affix.start.startswith(other.start) and affix.end.endswith(other.end)
        if not fits:
            return False
        cut = len(affix.end) - len(other.end)
        added.add((affix.start[len(other.start) :], affix.end[:cut]))
    return len(added) == 1


def _cores(name: str) -> Iterator[tuple[Affix, str]]:
    """Yield the affixes of a name, which are empty or hold a letter, and the rest of it."""
    tokens = _TOKENS.findall(name)
    has_folder = "/" in name
    for start in range(0, min(_MAX_START, len(tokens) - 1) + 1):
        before = "".join(tokens[:start])
        if (before and not _is_word(before)) or (before and has_folder):
            continue
        for end in range(0, min(_MAX_END, len(tokens) - 1 - start) + 1):
            after = "".join(tokens[len(tokens) - end :])
            core = "".join(tokens[start : len(tokens) - end])
            if (not after or _is_word(after)) and any(c.isalnum() for c in core):
                yield Affix(before, after), core


def _is_word(text: str) -> bool:
    return any(character.isalpha() for character in text)


def _stripped(name: str, affix: Affix) -> str:
    """A name without its affix; empty for a name that does not have it."""
    if len(name) <= len(affix.start) + len(affix.end):
        return ""
    if not (name.startswith(affix.start) and name.endswith(affix.end)):
        return ""
    return name[len(affix.start) : len(name) - len(affix.end)]
