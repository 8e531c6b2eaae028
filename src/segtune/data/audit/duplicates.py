"""Images that are in two splits, as equal files or nearly equal pictures."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from segtune.data.audit.examine import PairFacts
from segtune.data.audit.findings import Finding
from segtune.data.audit.second_look import Candidate, with_same_details
from segtune.data.source.layout import Source

NEAR_BITS = 56
"""Hashes of near duplicates differ in at most so many of 256 bits; see `perceptual_hash`.

Images of other patients or scenes may do so too, so their details are compared.
"""

_CANDIDATES = 3  # images of the nearest hashes whose details are compared

ImagePair = tuple[PairFacts, PairFacts]


def check_duplicates(
    source: Source, splits: Sequence[str], facts: Sequence[PairFacts]
) -> list[Finding]:
    """Find images of a split that an earlier split also holds.

    Splits come in the order train, val, test. The fix removes an equal file from the earlier split,
    so that val and test stay complete. Images that are nearly equal become one group.
    """
    equal: list[ImagePair] = []
    near: list[ImagePair] = []
    seen: set[tuple[str, str]] = set()
    readable = [pair for pair in facts if pair.hashes is not None]
    for index, split in enumerate(splits):
        later = [pair for pair in readable if pair.split == split]
        earlier = [pair for pair in readable if pair.split in splits[:index]]
        if not later or not earlier:
            continue
        for pair, other in _equal_files(earlier, later):
            if (pair.split, pair.name) not in seen:
                seen.add((pair.split, pair.name))
                if pair.image != other.image:  # else the lists overlap, which is another finding
                    equal.append((pair, other))
        unseen = [pair for pair in earlier if (pair.split, pair.name) not in seen]
        candidates = list(_near_images(unseen, later)) if unseen else []
        for pair, other in with_same_details(source, candidates):
            if (pair.split, pair.name) not in seen:
                seen.add((pair.split, pair.name))
                near.append((pair, other))
    findings = _equal_finding(source, equal)
    new = [match for match in near if not _is_grouped(source, match)]
    findings += _near_finding(source, new)
    return findings + _grouped_finding(source, [match for match in near if match not in new])


def _is_grouped(source: Source, match: ImagePair) -> bool:
    """Whether two images are of one group by a pattern or by fixes, not by equal names alone."""
    pair, other = match
    if source.config.groups is None and pair.name == other.name:
        return [source.short(pair.image), source.short(other.image)] in source.fixes.groups
    return source.group(pair.name) == source.group(other.name)


def _equal_files(earlier: Sequence[PairFacts], later: Sequence[PairFacts]) -> Iterator[ImagePair]:
    by_digest = {pair.digest: pair for pair in later}
    for pair in earlier:
        if pair.digest in by_digest:
            yield pair, by_digest[pair.digest]


def _near_images(earlier: Sequence[PairFacts], later: Sequence[PairFacts]) -> Iterator[Candidate]:
    """Pairs of images whose hashes nearly agree, the earlier image as it is or mirrored."""
    later_hashes = np.stack([pair.hashes[0] for pair in later if pair.hashes is not None])
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
    for mirrored in (0, 1):
        hashes = np.stack([p.hashes[mirrored] for p in earlier if p.hashes is not None])
        for matches in matcher.knnMatch(hashes, later_hashes, k=min(_CANDIDATES, len(later))):
            for match in matches:
                if match.distance <= NEAR_BITS:
                    yield earlier[match.queryIdx], later[match.trainIdx], bool(mirrored)


def _equal_finding(source: Source, matches: Sequence[ImagePair]) -> list[Finding]:
    if not matches:
        return []
    quarantine: dict[str, list[str]] = {}
    for pair, _ in matches:
        quarantine.setdefault(pair.split, []).append(source.short(pair.image))
    repair = f"--fix leaves them out of {' and '.join(quarantine)}"
    return [Finding("duplicate", *_places(source, matches), repair, {"quarantine": quarantine})]


def _near_finding(source: Source, matches: Sequence[ImagePair]) -> list[Finding]:
    if not matches:
        return []
    groups = [[source.short(pair.image), source.short(other.image)] for pair, other in matches]
    repair = "--fix makes them one group, which a division keeps in one split"
    if not source.config.splits or source.config.splits.lists:
        repair += "; to divide anew: dataset.splits.val=0.2"
    return [Finding("near_duplicate", *_places(source, matches), repair, {"groups": groups})]


def _grouped_finding(source: Source, matches: Sequence[ImagePair]) -> list[Finding]:
    if not matches:
        return []
    repair = "dataset.splits.val=0.2 divides anew, with whole groups"
    return [Finding("divided_group", *_places(source, matches), repair)]


def _places(source: Source, matches: Sequence[ImagePair]) -> tuple[list[str], list[str]]:
    """The files of some matches, and a line for each match."""
    files, details = [], []
    for pair, other in matches:
        image, other_image = source.short(pair.image), source.short(other.image)
        files += [image, other_image]
        details.append(f"'{image}' and '{other_image}'")
    return files, details
