"""Divides images into splits: by list, by fraction or into folds, whole groups together, classes spread evenly."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

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
    """Splits and their images' names, in the order given; equal for equal names, groups and seed.

    A group goes whole into the split that is furthest from its share - of each class's images where `presence` is
    given, the rarest class first (Sechidis et al., 2011, algorithm 1), else of the images.

    Args:
        groups: of each name; images of one stay together.
        presence: (images, C), which classes each image shows.

    Raises:
        DataError: fewer groups than splits.
    """
    if config.folds is not None:
        rest = 1.0 - config.test
        wanted = {f"fold {i}": rest / config.folds for i in range(config.folds)}
    else:
        wanted = {"train": 1.0 - config.val - config.test, "val": config.val}
    wanted |= {"test": config.test}
    wanted = {s: share for s, share in wanted.items() if share > 0.0}
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    if len(members) < len(wanted):
        raise DataError(
            f"dataset.splits: {len(names)} images in {len(members)} groups ({', '.join(list(members)[:3])}, …) make no "
            f"{len(wanted)} splits of whole groups. Choose a finer dataset.groups, or none."
        )
    place = _assign(
        list(members.values()), presence, len(names), list(wanted.values()), config.seed
    )
    found: dict[str, list[str]] = {split: [] for split in wanted}
    where = np.empty(len(names), int)
    for rows, chosen in zip(members.values(), place, strict=True):
        where[rows] = chosen
    for name, chosen in zip(names, where, strict=True):
        found[list(wanted)[chosen]].append(name)
    if config.folds is None:
        return found
    val = found.pop(f"fold {config.fold}")
    test = found.pop("test", [])
    chosen_for_train = {name for part in found.values() for name in part}
    return {
        "train": [n for n in names if n in chosen_for_train],
        "val": val,
        **({"test": test} if test else {}),
    }


def _assign(
    groups: Sequence[Sequence[int]],
    presence: NDArray[np.bool_] | None,
    images: int,
    shares: Sequence[float],
    seed: int,
) -> list[int]:
    """The split of each group."""
    rng = np.random.default_rng(seed)
    labels = (
        np.ones((images, 1))
        if presence is None
        else np.hstack([presence, np.ones((images, 1), bool)])
    )
    counts = np.array(
        [labels[list(rows)].sum(0) for rows in groups], float
    )  # (groups, C + 1), the last: images
    lacking = np.outer(shares, counts.sum(0))  # (splits, C + 1): what each split still wants
    order, place = rng.permutation(len(groups)), np.full(len(groups), -1)
    left = counts.sum(0)
    empty, held = np.ones(len(shares), bool), np.zeros_like(lacking)
    while (place < 0).any():
        live = np.where(left[:-1] > 0)[0] if counts.shape[1] > 1 else np.array([], int)
        label = int(live[left[live].argmin()]) if len(live) else -1
        open_groups = [g for g in order if place[g] < 0 and (label < 0 or counts[g, label] > 0)]
        open_groups.sort(
            key=lambda g: -counts[g, label]
        )  # large ones first: small ones fill the gaps
        for group in open_groups:
            remaining = int((place < 0).sum())
            allowed = (
                empty if remaining <= empty.sum() else np.ones(len(shares), bool)
            )  # no split stays empty
            if label >= 0:
                without = held[:, label] == 0
                left_over = sum(place[g] < 0 for g in open_groups)
                if (
                    left_over <= without.sum() and (without & allowed).any()
                ):  # nor one without the class, if it can be
                    allowed = allowed & without
            want = np.where(allowed, lacking[:, label], -np.inf)
            best = np.flatnonzero(want >= want.max() - 1e-9)
            chosen = int(best[lacking[best, -1].argmax()])
            place[group], empty[chosen] = chosen, False
            lacking[chosen] -= counts[group]
            held[chosen] += counts[group]
            left -= counts[group]
    return [int(p) for p in place]


def group_of(pattern: str, name: str) -> str:
    """The first match of a pattern in an image's name, or the name."""
    match = re.search(pattern, name)
    return match.group(0) if match else name


def read_list(path: Path) -> list[str]:
    """The lines of a split list, as written, without blank ones.

    Raises:
        DataError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"dataset.splits.lists: '{path}' cannot be read: {error}") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def resolve_names(listed: Sequence[str], known: Mapping[str, str], path: Path) -> list[str]:
    """Names of images for the lines of a list: a name, a file name, or a path that ends in one.

    Args:
        known: every image's name -> its file, relative with `/`.

    Raises:
        DataError: a line that is no image's; an absolute path of another machine is told as such.
    """
    by_tail: dict[str, list[str]] = {}
    for name, file in known.items():
        for tail in {name, file, PurePosixPath(file).name, PurePosixPath(name).name}:
            by_tail.setdefault(tail, []).append(name)
    found = []
    for line in listed:
        text = line.replace("\\", "/").removeprefix("./")
        if text in known:
            found.append(text)
            continue
        parts = [p for p in text.split("/") if p]
        tails = ("/".join(parts[i:]) for i in range(len(parts)))
        if is_foreign(line) and not Path(line).exists():
            raise DataError(
                f"'{path}' names '{line}', an absolute path that does not exist here. Lists name images relative to "
                f"dataset.images. Write what follows the folder of images, e.g. '{parts[-1] if parts else line}'."
            )
        match = next((by_tail[t] for t in tails if t in by_tail), [])
        if len(match) != 1:
            kind = f"more than one image: {', '.join(match[:3])}" if match else "no image"
            raise DataError(
                f"'{path}' names '{line}', which is {kind} of {len(known)} in dataset.images. "
                "Give the name relative to that folder, with or without its suffix."
            )
        found.append(match[0])
    return found


def is_foreign(text: str) -> bool:
    r"""Whether a path is absolute, on this or another system.

    >>> is_foreign("C:\\data\\a.png"), is_foreign("/content/a.png"), is_foreign("images/a.png")
    (True, True, False)
    """
    return text.startswith("/") or PureWindowsPath(text).is_absolute()
