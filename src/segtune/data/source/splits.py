"""Divide images into splits: by list, by share or into folds; groups stay whole."""

from collections.abc import Sequence
from pathlib import PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from segtune.config.dataset_schema import SplitsConfig
from segtune.errors import DataError


def divide(
    names: Sequence[str],
    groups: Sequence[str],
    config: SplitsConfig,
    presence: NDArray[np.bool_] | None = None,
) -> dict[str, list[str]]:
    """Divide images into splits; equal names, groups and seed give equal splits.

    A group goes whole into the split that lacks most of its share. With `presence` that is the
    share of each class's images, the rarest class first (Sechidis et al., 2011, algorithm 1);
    without, the share of the images.

    Args:
        groups: the group of each name.
        presence: (images, C), the classes that each image shows.

    Returns:
        Split -> names, in the order given.

    Raises:
        DataError: there are fewer groups than splits.
    """
    shares = _shares(config)
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    if len(members) < len(shares):
        raise DataError(
            f"dataset.splits: {len(names)} images in {len(members)} groups "
            f"({', '.join(list(members)[:3])}, …) make no {len(shares)} splits of whole groups. "
            "Choose a finer dataset.groups, or none."
        )
    columns = np.ones((len(names), 1), bool)
    if presence is not None:
        columns = np.hstack([presence, columns])
    rows_by_group = np.concatenate(list(members.values()))
    starts = np.cumsum([0, *map(len, members.values())])[:-1]
    counts = np.add.reduceat(columns[rows_by_group], starts, axis=0, dtype=float)
    split_of_group = _assign(counts, list(shares.values()), config.seed)
    split_of_image = np.empty(len(names), int)
    for rows, split_index in zip(members.values(), split_of_group, strict=True):
        split_of_image[rows] = split_index
    split_names = list(shares)
    splits: dict[str, list[str]] = {split: [] for split in split_names}
    for name, split_index in zip(names, split_of_image, strict=True):
        splits[split_names[split_index]].append(name)
    return splits if config.folds is None else _one_fold(splits, names, config.fold)


def _shares(config: SplitsConfig) -> dict[str, float]:
    """Split or fold -> share of the images."""
    if config.folds is None:
        shares = {"train": 1.0 - config.val - config.test, "val": config.val}
    else:
        share = (1.0 - config.test) / config.folds
        shares = {_fold_name(fold): share for fold in range(config.folds)}
    shares["test"] = config.test
    return {split: share for split, share in shares.items() if share > 0.0}


def _fold_name(fold: int) -> str:
    return f"fold {fold}"


def _one_fold(
    splits: dict[str, list[str]], names: Sequence[str], fold: int
) -> dict[str, list[str]]:
    """Make one fold val and all others train."""
    val, test = splits[_fold_name(fold)], splits.get("test", [])
    held_out = {*val, *test}
    train = [name for name in names if name not in held_out]
    return {"train": train, "val": val, **({"test": test} if test else {})}


def _assign(counts: NDArray[np.float64], shares: Sequence[float], seed: int) -> list[int]:
    """The index of each group's split.

    Args:
        counts: (groups, C + 1), how many images of a group show each class; the last column counts
            all its images.
        shares: of the images, for each split.
    """
    order = np.random.default_rng(seed).permutation(len(counts))
    split_of = np.full(len(counts), -1)
    lacking = np.outer(shares, counts.sum(0))  # (splits, C + 1), images that a split still needs
    held = np.zeros_like(lacking)  # (splits, C + 1), images that a split has
    unassigned = counts.sum(0)  # (C + 1,)
    num_left = len(counts)
    while num_left:
        classes = np.flatnonzero(unassigned[:-1] > 0)
        rarest = int(classes[unassigned[classes].argmin()]) if len(classes) else -1
        # without a class that is left, column -1 counts all images
        pending = order[(split_of[order] < 0) & ((rarest < 0) | (counts[order, rarest] > 0))]
        # large groups first: small ones fill the gaps
        pending = pending[np.argsort(-counts[pending, rarest], kind="stable")]
        for index, group in enumerate(pending):
            candidates = _allowed_splits(held, rarest, num_left, len(pending) - index)
            split = _neediest(lacking[candidates][:, [rarest, -1]].tolist(), candidates)
            split_of[group] = split
            lacking[split] -= counts[group]
            held[split] += counts[group]
            num_left -= 1
        unassigned = unassigned - counts[pending].sum(0)
    return [int(split) for split in split_of]


def _neediest(lacking: Sequence[Sequence[float]], splits: Sequence[int]) -> int:
    """The split that lacks most images of a class; of several, the one that lacks most images.

    Args:
        lacking: (splits, 2), the images of the class and of all classes that each split lacks.
        splits: their indices.
    """
    most = max(need for need, _ in lacking) - 1e-9
    rows = [
        (total, -split)
        for (need, total), split in zip(lacking, splits, strict=True)
        if need >= most
    ]
    return -max(rows)[1]


def _allowed_splits(
    held: NDArray[np.float64], class_id: int, num_left: int, num_pending: int
) -> list[int]:
    """The splits that may take the next group.

    No split stays empty and, where possible, none stays without the class.

    Args:
        held: (splits, C + 1), images that each split has.
        num_left: groups without a split.
        num_pending: those of them that show the class.
    """
    if min(num_left, num_pending) > len(held):  # enough groups are left for every split
        return list(range(len(held)))
    is_empty = held[:, -1] == 0
    allowed = is_empty if num_left <= is_empty.sum() else np.ones(len(held), bool)
    if class_id >= 0:
        lacks_class = held[:, class_id] == 0
        if num_pending <= lacks_class.sum() and (lacks_class & allowed).any():
            allowed = allowed & lacks_class
    return [int(split) for split in np.flatnonzero(allowed)]


def is_absolute(path: str) -> bool:
    r"""Whether a path is absolute, on this or another system.

    >>> is_absolute("C:\\data\\a.png"), is_absolute("/content/a.png"), is_absolute("images/a.png")
    (True, True, False)
    """
    return path.startswith("/") or PureWindowsPath(path).is_absolute()
