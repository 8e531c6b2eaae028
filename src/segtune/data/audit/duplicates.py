"""Images that are in two splits, as equal files or nearly equal pictures."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from segtune.data.audit.examine import PairFacts
from segtune.data.audit.findings import Finding
from segtune.data.source.layout import Source

NEAR_BITS = 56
"""Hashes of near duplicates differ in at most so many of 256 bits; see `perceptual_hash`."""

ImagePair = tuple[PairFacts, PairFacts]


def check_duplicates(
    source: Source, splits: Sequence[str], facts: Sequence[PairFacts]
) -> list[Finding]:
    """Find images of a split that an earlier split also holds.

    Splits come in the order train, val, test. The fix removes the image from the earlier split, so
    that val and test stay complete.
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
        for pair, other in _near_images(earlier, later):
            if (pair.split, pair.name) not in seen:
                seen.add((pair.split, pair.name))
                near.append((pair, other))
    findings = []
    for kind, matches in (("duplicate", equal), ("near_duplicate", near)):
        if matches:
            findings.append(_finding(source, kind, matches))
    return findings


def _equal_files(earlier: Sequence[PairFacts], later: Sequence[PairFacts]) -> Iterator[ImagePair]:
    by_digest = {pair.digest: pair for pair in later}
    for pair in earlier:
        if pair.digest in by_digest:
            yield pair, by_digest[pair.digest]


def _near_images(earlier: Sequence[PairFacts], later: Sequence[PairFacts]) -> Iterator[ImagePair]:
    """Pairs of images whose hashes nearly agree, the earlier image as it is or mirrored."""
    later_hashes = np.stack([pair.hashes[0] for pair in later if pair.hashes is not None])
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
    for mirrored in (0, 1):
        hashes = np.stack([p.hashes[mirrored] for p in earlier if p.hashes is not None])
        for (match,) in matcher.knnMatch(hashes, later_hashes, k=1):
            if match.distance <= NEAR_BITS:
                yield earlier[match.queryIdx], later[match.trainIdx]


def _finding(source: Source, kind: str, matches: Sequence[ImagePair]) -> Finding:
    files, details = [], []
    quarantine: dict[str, list[str]] = {}
    for pair, other in matches:
        image, other_image = source.short(pair.image), source.short(other.image)
        quarantine.setdefault(pair.split, []).append(image)
        files += [image, other_image]
        details.append(f"'{image}' and '{other_image}'")
    repair = f"--fix leaves them out of {' and '.join(quarantine)}"
    return Finding(kind, files, details, repair, {"quarantine": quarantine})
