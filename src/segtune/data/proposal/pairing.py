"""Find which files of a folder are images, and which one is the mask of each."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

from segtune.data.proposal.looks import mask_likeness, sizes_agree
from segtune.data.proposal.relations import Affix, Relation, names_without, relations
from segtune.data.proposal.stacks import File, Stack, stacks_of
from segtune.data.proposal.words import IMAGE_WORDS, MASK_WORDS, SECOND_WORDS, says, words_in
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.patterns import NAME, SPLIT
from segtune.errors import DataError

_MOST_STACKS = 12  # the largest of each way to take the folders
_FEWEST_PAIRED = 0.3  # share of the images, or of the masks, that must have a partner
_LEAST_SCORE = 1.0
_CLOSE = 0.5  # scores that differ by less are about as likely
_CLOSE_TWIN = 1.0  # the same, for masks of two suffixes
_MOST_ALTERNATIVES = 4


@dataclass(frozen=True)
class Pairing:
    """One way to pair images and masks.

    Attributes:
        images, masks: patterns, as `{split}/images` and `{split}/{name}_mask.png`.
        image_suffix, mask_suffix: see `DatasetConfig`.
        pairs: image and mask.
        lonely: images without a mask.
        lonely_masks: masks without an image.
        score: how likely it is; see `_score`.
    """

    images: str
    masks: str
    image_suffix: str
    mask_suffix: str
    pairs: tuple[tuple[File, File], ...]
    lonely: tuple[File, ...]
    lonely_masks: tuple[File, ...]
    score: float = 0.0

    @cached_property
    def key(self) -> frozenset[tuple[str, str]]:
        """Which mask each image has."""
        return frozenset((image.path, mask.path) for image, mask in self.pairs)

    @property
    def settings(self) -> dict[str, Any]:
        """The keys of the dataset's config that say it, without those of default value."""
        values = {
            "images": self.images,
            "masks": self.masks,
            "image_suffix": self.image_suffix,
            "mask_suffix": self.mask_suffix,
        }
        return {key: value for key, value in values.items() if value}


def pairings(root: Path) -> list[Pairing]:
    """The ways to pair the images and masks below root that are about as likely; the best first.

    It is empty where no files look like images and masks of the same names.
    """
    likeness: dict[tuple[str, ...], float] = {}
    for stacks in stacks_of(root):
        found: dict[frozenset[tuple[str, str]], Pairing] = {}
        largest = sorted(stacks, key=lambda stack: -len(stack.files))[:_MOST_STACKS]
        for images, masks in product(largest, largest):
            for pairing in _of_two(root, images, masks, likeness):
                known = found.get(pairing.key)
                if known is None or known.score < pairing.score:
                    found[pairing.key] = pairing
        if found:
            return _likely(list(found.values()))
    return []


def _likely(found: Sequence[Pairing]) -> list[Pairing]:
    """The best pairing and those that are about as likely, of about as many images."""
    whole = [p for p in found if not any(p.key < other.key for other in found)]
    ordered = sorted(whole, key=lambda p: (-p.score, len(p.images) + len(p.masks)))
    best = ordered[0]
    likely = []
    for pairing in ordered:
        gap, is_many = best.score - pairing.score, len(pairing.pairs) >= 0.5 * len(best.pairs)
        if (gap < _CLOSE and is_many) or (gap < _CLOSE_TWIN and _are_twins(pairing, best)):
            likely.append(pairing)
    return likely[:_MOST_ALTERNATIVES]


def _are_twins(pairing: Pairing, other: Pairing) -> bool:
    """Whether the masks of two pairings differ only in their suffix, as `a.gif` and `a.png`."""
    stems = {p.masks.rpartition(NAME)[0] for p in (pairing, other)}
    return pairing.images == other.images and len(stems) == 1 and NAME in pairing.masks


def _of_two(
    root: Path, images: Stack, masks: Stack, likeness: dict[tuple[str, ...], float]
) -> list[Pairing]:
    """The pairings of two stacks whose score is high enough."""
    if images.folder.count("{folder}") != masks.folder.count("{folder}"):
        return []
    if SPLIT in masks.folder and SPLIT not in images.folder:
        return []
    result = []
    for relation in relations(images, masks):
        paired = _paired(images, masks, relation)
        if paired is None:
            continue
        score = _score(root, paired, likeness)
        if score >= _LEAST_SCORE:
            result.append(replace(paired, score=score))
    return result


def _paired(images: Stack, masks: Stack, relation: Relation) -> Pairing | None:
    """The pairing by one relation; None if few files have a partner."""
    image_files = names_without(images, relation.image)
    mask_files = names_without(masks, relation.mask)
    if images is masks:
        # `a_mask` also has the affixes of an image of any name
        taken = {file.path for file in mask_files.values()}
        image_files = {k: f for k, f in image_files.items() if f.path not in taken}
    if SPLIT in images.folder and SPLIT not in masks.folder:
        by_name = {key[1:]: file for key, file in mask_files.items()}
        mask_files = {key: by_name[key[1:]] for key in image_files if key[1:] in by_name}
    image_files = {k: f for k, f in image_files.items() if f.suffix in IMAGE_SUFFIXES}
    shared = sorted(image_files.keys() & mask_files.keys())
    if len(shared) < _FEWEST_PAIRED * min(len(image_files), len(mask_files)) or not shared:
        return None
    # in one folder, images without an end of their own are told from masks by a pattern
    is_mixed = images is masks and not (relation.image.end and relation.mask.end)
    used_images = [image_files[key] for key in shared]
    used_masks = [mask_files[key] for key in shared]
    image_pattern, image_suffix = _pattern(images, relation.image, used_images, is_mixed)
    mask_pattern, mask_suffix = _pattern(masks, relation.mask, used_masks, is_mixed)
    return Pairing(
        image_pattern,
        mask_pattern,
        image_suffix,
        mask_suffix,
        tuple((image_files[key], mask_files[key]) for key in shared),
        tuple(file for key, file in image_files.items() if key not in mask_files),
        tuple(file for key, file in mask_files.items() if key not in image_files),
    )


def _pattern(stack: Stack, affix: Affix, files: Sequence[File], is_mixed: bool) -> tuple[str, str]:
    """The pattern of the files with an affix, and `image_suffix` or `mask_suffix`."""
    if not affix.start and stack.folder and not stack.suffix and not is_mixed:
        return stack.folder, affix.end
    suffixes = {file.suffix for file in files}
    suffix = suffixes.pop() if len(suffixes) == 1 else ""
    name = f"{affix.start}{NAME}{affix.end}{suffix}"
    return f"{stack.folder}/{name}".lstrip("/"), ""


def _score(root: Path, pairing: Pairing, likeness: dict[tuple[str, ...], float]) -> float:
    """How likely a pairing is: pixels count twice, then words, then how many have a partner.

    A pairing whose masks look less like masks than its images gets no score.
    """
    images = tuple(image.path for image, _ in pairing.pairs)
    masks = tuple(mask.path for _, mask in pairing.pairs)
    for paths in (images, masks):
        if paths not in likeness:
            likeness[paths] = mask_likeness([root / path for path in paths])
    of_images, of_masks = likeness[images], likeness[masks]
    if of_masks < 0.5 or of_masks < of_images:
        return 0.0
    image_text = f"{pairing.images} {pairing.image_suffix}"
    mask_text = f"{pairing.masks} {pairing.mask_suffix}"
    score = 2 * (of_masks - of_images) + _word_score(image_text, mask_text)
    most = max(len(pairing.pairs), 1)
    score += most / max(most, min(len(pairing.pairs) + len(pairing.lonely), 10 * most))
    if not sizes_agree([(root / i.path, root / m.path) for i, m in pairing.pairs]):
        score -= 1.5
    return score


def _word_score(images: str, masks: str) -> float:
    """Score how clearly words in the two names, such as `mask`, tell the mask from the image."""
    shared = set(words_in(images)) & set(words_in(masks))
    image_text = " ".join(word for word in words_in(images) if word not in shared)
    mask_text = " ".join(word for word in words_in(masks) if word not in shared)
    score = 1.0 * says(mask_text, MASK_WORDS) + 0.5 * says(image_text, IMAGE_WORDS)
    score -= 1.0 * says(image_text, MASK_WORDS) + 0.5 * says(mask_text, IMAGE_WORDS)
    return score - 1.0 * says(mask_text, SECOND_WORDS)


def refuse_shifted(root: Path, pairing: Pairing) -> None:
    """Refuse images and masks that one tool numbers from 0 and another one from 1.

    Raises:
        DataError: the numbers of all masks are those of all images, moved by one.
    """
    images = [image for image, _ in pairing.pairs] + list(pairing.lonely)
    masks = [mask for _, mask in pairing.pairs] + list(pairing.lonely_masks)
    image_numbers, mask_numbers = _numbers(images), _numbers(masks)
    if not image_numbers or not mask_numbers or image_numbers == mask_numbers:
        return
    if any([n + step for n in image_numbers] == mask_numbers for step in (-1, 1)):
        raise DataError(
            f"'{root}': the images are numbered from {image_numbers[0]} and the masks from "
            f"{mask_numbers[0]}, as '{images[0].path}' and '{masks[0].path}'. Equal numbers may "
            "belong to different photos. Rename one side, or, if equal numbers do belong together, "
            "state dataset.images and dataset.masks."
        )


def _numbers(files: Sequence[File]) -> list[int]:
    """The last number in each file's name, sorted; empty if a name has none."""
    numbers = [re.search(r"(\d+)\D*$", PurePosixPath(file.path).stem) for file in files]
    return sorted(int(match[1]) for match in numbers if match) if all(numbers) else []
