"""Find annotation files, and the image files that annotations name."""

import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from segtune.config.commands import word
from segtune.config.dataset_schema import RELOCATION
from segtune.data.proposal.words import MASK_WORDS, says
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.files import json_sketch, read_json, walk
from segtune.data.source.names import normal_name
from segtune.data.source.split_words import (
    SPLIT_OF_WORD,
    NamedSplit,
    first_stated,
    split_of_name,
)
from segtune.data.source.splits import is_absolute
from segtune.errors import DataError

_GENERIC_FOLDERS = {
    "images",
    "image",
    "jpegimages",
    "data",
    "img",
    "imgs",
    "photos",
    "data_annotated",
    "annotations",
}


def folder_split(path: str) -> NamedSplit | None:
    """The split that a file's folders name, the innermost first; None if they name none.

    The file's own name does not count: `test_drive.jpg` may well be learned. Where no folder is
    called after a split alone, one that holds the word counts, as `roads_train`: see
    `segtune.data.formats.split_names.settled`.

    >>> folder_split("train_images/test_drive.jpg"), folder_split("images/test_drive.jpg")
    ('train', None)
    """
    folders = path.replace("\\", "/").split("/")[:-1]
    return first_stated(*map(split_of_name, reversed(folders)))


def annotation_split(path: str, image: str = "") -> NamedSplit | None:
    """The split of an image, by the name of its file of annotations, or by the folders of both.

    Args:
        path: of the file of annotations, below the root.
        image: of the image, below the root.

    >>> annotation_split("images/instances_val2017.json"), annotation_split("a.json", "test/a.jpg")
    ('val', 'test')
    """
    own_name = split_of_name(path.replace("\\", "/").rpartition("/")[2])
    return first_stated(own_name, folder_split(path), folder_split(image))


def split_called(text: str, where: str) -> str | None:
    """The split that a table states in words, as `Train` or `validation`; None for no text.

    Raises:
        DataError: it cannot be the name of a folder.
    """
    name = text.strip()
    if name.startswith(".") or not set(name).isdisjoint('/\\:*?"<>|'):
        raise DataError(
            f"{where} is '{text}', which cannot be a folder's name; train, val and test are usual."
        )
    return NamedSplit(name) if name.lower() in SPLIT_OF_WORD else name or None


class FileFinder:
    """Finds the files below a folder that annotations name, by the end of their path.

    Upper and lower case, Unicode form, `.jpeg` for `.jpg` and percent-encoding may differ.

    Args:
        relocate: `OLD:NEW`, replaces the beginning of absolute paths.
    """

    def __init__(
        self, root: Path, relocate: str | None = None, suffixes: Sequence[str] = IMAGE_SUFFIXES
    ) -> None:
        self.root = root
        match = RELOCATION.fullmatch((relocate or "").replace("\\", "/"))
        self.old, self.new = match.groups() if match else ("", "")
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for file in walk(root, suffixes):
            self._by_name.setdefault(_name_key(file), []).append(file)
            self._by_stem.setdefault(normal_name(file.rpartition(".")[0]), []).append(file)

    def find(
        self, text: str, where: str, near: Path | None = None, split: str | None = None
    ) -> Path:
        """The file that a path in the annotations means.

        Args:
            where: file and field, for messages.
            near: folder that a relative path may start from, besides root.
            split: prefers files of that split among several of one name.

        Raises:
            DataError: no file matches, or several do; or the path is absolute, of another machine,
                and `relocate` does not replace its beginning.
        """
        path = text.replace("\\", "/")
        if self.old and path.startswith(self.old):
            path = self.new + path[len(self.old) :]
        paths = list(dict.fromkeys((path, unquote(path))))
        for candidate in paths:
            starts = [Path()] if is_absolute(candidate) else [near or self.root, self.root]
            for start in starts:
                if os.path.isfile(start / candidate):
                    return start / candidate
        if not is_absolute(text) or path != text.replace("\\", "/"):  # or relocated
            return self._by_longest_end(paths, text, where, split)
        raise self._elsewhere(paths, text, where, split)

    def find_stem(self, stem: str, where: str) -> Path:
        """The one file of a path below root without its suffix.

        Raises:
            DataError: there is none, or several.
        """
        matches = self._by_stem.get(normal_name(stem), [])
        if len(matches) == 1:
            return self.root / matches[0]
        if matches:
            raise _several(where, stem, matches)
        raise DataError(
            f"{where} should be '{stem}' with one of the suffixes {', '.join(IMAGE_SUFFIXES)} in "
            f"'{self.root}', where there is none. Put it there, or remove its mask."
        )

    def _elsewhere(
        self, paths: Sequence[str], text: str, where: str, split: str | None
    ) -> DataError:
        """The error for an absolute path of another machine, with the words that replace it."""
        parts = paths[-1].split("/")
        new = ["."]
        try:
            found = self._by_longest_end(paths[-1:], text, where, split).relative_to(self.root)
        except DataError:
            parts.pop()
        else:
            here = list(found.parts)
            while here and _name_key(here[-1]) == _name_key(parts[-1]):
                here.pop()
                parts.pop()
            new += here
        relocate = word("relocate", f"{'/'.join(parts)}:{'/'.join(new)}")
        return DataError(
            f"{where} is '{text}', an absolute path that does not exist here. Paths relative to "
            f"the file are allowed. Replace its beginning: {shlex.quote(relocate)} (or, for train, "
            f"{shlex.quote(f'dataset.annotations.{relocate}')})."
        )

    def _by_longest_end(
        self, paths: Sequence[str], text: str, where: str, split: str | None
    ) -> Path:
        """The file whose path has the longest end in common with a path."""
        for path in paths:
            parts = [p for p in path.split("/") if p not in ("", ".", "..")]
            same_name = self._by_name.get(_name_key(path), []) if parts else []
            for length in range(len(parts), 0, -1):
                end = _name_key("/" + "/".join(parts[-length:]), whole=True)
                matches = [f for f in same_name if _name_key(f"/{f}", whole=True).endswith(end)]
                if split is not None:
                    matches = [f for f in matches if folder_split(f) == split] or matches
                exact = [f for f in matches if f"/{f}".endswith("/" + "/".join(parts[-length:]))]
                matches = exact or matches
                if len(matches) > 1:
                    matches = [f for f in matches if not in_mask_folder(f)] or matches
                if len(matches) == 1:
                    return self.root / matches[0]
                if matches:
                    raise _several(where, text, matches)
        raise DataError(
            f"{where} is '{text}', but there is no such image below '{self.root}'. "
            "Put the images there, or name the folder that holds both."
        )


def in_mask_folder(file: str) -> bool:
    """Whether the folder of a file says that it holds masks.

    >>> in_mask_folder("masks/a.png"), in_mask_folder("images/mask_a.png")
    (True, False)
    """
    return any(says(part, MASK_WORDS) for part in file.split("/")[:-1])


def _name_key(path: str, whole: bool = False) -> str:
    """A file's name (or whole path) as it is compared."""
    key = normal_name(path if whole else path.rpartition("/")[2])
    return re.sub(r"\.(jpeg|jpe)$", ".jpg", key)


def _several(where: str, text: str, matches: Sequence[str]) -> DataError:
    return DataError(
        f"{where} is '{text}', which more than one file could be: {', '.join(matches[:3])}. Write "
        "the folder into the annotations, as far as it differs, or remove the other file. To read "
        "folders of images and masks instead: format=folder."
    )


def json_files(root: Path, is_format: Callable[[Any], bool]) -> list[Path]:
    """The JSON files below root whose content is of a format; files that are no JSON are skipped.

    Args:
        is_format: judges the beginning of the content: see `sketch`.

    A file in an encoding that is not read is judged by its keys, which are ASCII: reading it then
    names the encoding.
    """
    files = []
    for file in walk(root, (".json",)):
        if is_format(json_sketch(root / file, _in_any_encoding)):
            files.append(root / file)
    return files


def _in_any_encoding(path: Path) -> Any:
    """The content of a JSON file whose text may be wrong; None for a file that is no JSON."""
    try:
        return read_json(path)
    except DataError:
        pass
    # in GBK, a backslash may be half of a character; as Latin-1 it would escape what follows
    for encoding in ("gb18030", "latin-1"):
        try:
            return json.loads(path.read_bytes().decode(encoding))
        except (OSError, ValueError, RecursionError):
            continue
    return None


def image_name(path: Path, root: Path) -> str:
    """An image's name in a dataset: its path below root without suffix.

    Folders that name a split, or nothing in particular as `images`, are left out, and of an image
    outside of root all of them: a name never leads out of the dataset.

    >>> image_name(Path("/set/images/train2017/day/a.png"), Path("/set"))
    'day/a'
    >>> image_name(Path("/set/../other/a.png"), Path("/set"))
    'a'
    """
    path, root = Path(os.path.normpath(path)), Path(os.path.normpath(root))
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    folders = [
        part
        for part in inside.parts[:-1]
        if part.lower() not in _GENERIC_FOLDERS
        and part.rstrip("0123456789").lower() not in SPLIT_OF_WORD
    ]
    return "/".join([*folders, inside.stem])
