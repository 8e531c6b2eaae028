"""The groups of images: by a pattern in their names, joined where images are nearly equal."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path


def group_of(pattern: str, name: str) -> str:
    """The first match of a pattern in an image's name, or the name itself."""
    match = re.search(pattern, name)
    return match.group(0) if match else name


def joined(together: Sequence[Sequence[str]]) -> dict[str, str]:
    """Group -> the one group that it becomes with all those it is connected to.

    >>> joined([["a", "b"], ["d", "e"], ["c", "b"]])
    {'a': 'c', 'b': 'c', 'd': 'd', 'e': 'd', 'c': 'c'}
    """
    parent: dict[str, str] = {}

    def top(group: str) -> str:
        while parent.setdefault(group, group) != group:
            group = parent[group]
        return group

    for groups in together:
        first = top(groups[0])
        for group in groups[1:]:
            parent[top(group)] = first
    return {group: top(group) for group in parent}


def groups_of_images(
    images: Sequence[Sequence[str]], root: Path, groups: Mapping[Path, str]
) -> list[list[str]]:
    """The groups of images that fixes name by their path under root, without those not there.

    Args:
        groups: image -> its group.
    """
    together = []
    for paths in images:
        known = [root / path for path in paths if root / path in groups]
        if known:
            together.append([groups[path] for path in known])
    return together
