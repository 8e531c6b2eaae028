"""Sort the image and mask files of a folder into stacks: files below folders of one pattern."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segtune.data.proposal.words import IMAGE_WORDS, MASK_WORDS, says, stated_splits
from segtune.data.reading.images import MASK_SUFFIXES
from segtune.data.source.files import walk
from segtune.data.source.names import composed
from segtune.data.source.patterns import FOLDER

_TWIN_SHARE = 0.3  # share of the names of a suffix that another has too
_FEW_SHARE = 0.1  # the same, where the other has no name of its own
_ROLES = IMAGE_WORDS | MASK_WORDS


@dataclass(frozen=True)
class File:
    """An image or mask.

    Attributes:
        path: below the root, with `/`.
        split: text that its folders state, as `Training`; empty for none.
        folders: what stands for each `{folder}`.
        name: path below the folder of the stack, without suffix.
    """

    path: str
    split: str
    folders: tuple[str, ...]
    name: str

    @classmethod
    def of(cls, path: str, split: str, folders: Sequence[str], name: str) -> "File":
        """A file whose name and folders have composed characters, as its partner's may."""
        return cls(path, split, tuple(composed(folder) for folder in folders), composed(name))

    @property
    def suffix(self) -> str:
        """In lower case."""
        return PurePosixPath(self.path).suffix.lower()


@dataclass(frozen=True)
class Stack:
    """Files below folders of one pattern.

    Attributes:
        folder: pattern without `{name}`, as `{split}/{folder}/images`; empty for the root.
        suffix: of all files, where others of the same names lie beside them; else empty.
    """

    folder: str
    files: tuple[File, ...]
    suffix: str = ""


def stacks_of(root: Path) -> Iterator[list[Stack]]:
    """Stacks of all files below root, in several ways to take the folders.

    Folders of other names are taken for parts of a set first, as `Urban` and `Rural`, then for
    sets of their own; at last each folder is a stack.
    """
    files = list(walk(root, MASK_SUFFIXES))
    yield _stacked(_by_role(files, merges_folders=True))
    yield _stacked(_by_role(files, merges_folders=False))
    yield _stacked(_by_folder(files))


def _stacked(rows: Iterable[tuple[str, File]]) -> list[Stack]:
    """One stack for each pattern; two where files of two suffixes have the same names."""
    by_folder: dict[str, list[File]] = {}
    for folder, file in rows:
        by_folder.setdefault(folder, []).append(file)
    stacks = []
    for folder, files in by_folder.items():
        stacks += _by_suffix(folder, files)
    return stacks


def _by_suffix(folder: str, files: Sequence[File]) -> list[Stack]:
    names: dict[str, set[tuple[str, ...]]] = {}
    for file in files:
        names.setdefault(file.suffix, set()).add((file.split, *file.folders, file.name))
    suffixes = list(names)
    are_twins = False
    for index, suffix in enumerate(suffixes):
        for other in suffixes[index + 1 :]:
            shared = len(names[suffix] & names[other])
            fewest = min(len(names[suffix]), len(names[other]))
            most = max(len(names[suffix]), len(names[other]))
            is_inside = shared == fewest >= 3 and shared > _FEW_SHARE * most
            are_twins |= shared > _TWIN_SHARE * most or is_inside
    if not are_twins:
        return [Stack(folder, tuple(files))]
    return [Stack(folder, tuple(f for f in files if f.suffix == s), s) for s in suffixes]


def _by_role(files: Sequence[str], merges_folders: bool) -> list[tuple[str, File]]:
    """Pattern and file; the pattern ends at the last folder that states a split or a role."""
    rows: list[tuple[tuple[str, ...], str, str, str]] = []
    splits = _splits_of_folders(files)
    for path in files:
        *folders, name = path.split("/")
        stated_parts, split, last = list[str](), "", -1
        for index, folder in enumerate(folders):
            stated = splits.get(folder)
            if stated is not None and split in ("", stated[1]):
                folder, split = stated
                last = index
            elif says(folder, _ROLES):
                last = index
            stated_parts.append(folder)
        below = "/".join([*folders[last + 1 :], name.rpartition(".")[0]])
        rows.append((tuple(stated_parts[: last + 1]), split, below, path))
    varied = _varied([parts for parts, *_ in rows]) if merges_folders else set()
    result = []
    for parts, split, below, path in rows:
        pattern, free = [], []
        for index, part in enumerate(parts):
            is_free = (index, _others(parts, index)) in varied and not _is_fixed(part)
            pattern.append(FOLDER if is_free else part)
            free += [part] if is_free else []
        result.append(("/".join(pattern), File.of(path, split, free, below)))
    return result


def _splits_of_folders(files: Sequence[str]) -> dict[str, tuple[str, str]]:
    """See `stated_splits`, for all folders of some files."""
    return stated_splits({folder for file in files for folder in file.split("/")[:-1]})


def _is_fixed(part: str) -> bool:
    return "{split}" in part or says(part, _ROLES)


def _others(parts: tuple[str, ...], index: int) -> tuple[str, ...]:
    """The parts of a folder but one, of which those without a role may be any."""
    return tuple(p if _is_fixed(p) else "*" for i, p in enumerate(parts) if i != index)


def _varied(folders: Sequence[tuple[str, ...]]) -> set[tuple[int, tuple[str, ...]]]:
    """The places at which folders of several names stand, where all other parts are the same."""
    values: dict[tuple[int, tuple[str, ...]], set[str]] = {}
    for parts in dict.fromkeys(folders):
        for index, part in enumerate(parts):
            if not _is_fixed(part):
                values.setdefault((index, _others(parts, index)), set()).add(part)
    return {place for place, names in values.items() if len(names) > 1}


def _by_folder(files: Sequence[str]) -> list[tuple[str, File]]:
    """Pattern and file; each folder is a pattern of its own, but for its split."""
    rows, splits = [], _splits_of_folders(files)
    for path in files:
        *folders, name = path.split("/")
        parts, split = [], ""
        for folder in folders:
            stated = splits.get(folder)
            if stated is not None and split in ("", stated[1]):
                folder, split = stated
            parts.append(folder)
        rows.append(("/".join(parts), File.of(path, split, (), name.rpartition(".")[0])))
    return rows
