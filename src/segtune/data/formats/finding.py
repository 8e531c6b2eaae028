"""Find annotation files, and the image files that annotations name."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.files import read_json, walk
from segtune.data.source.splits import is_absolute
from segtune.errors import DataError

_SPLIT_WORD = re.compile(
    r"(?<![a-z])(train|training|val|valid|validation|test|testing)(?![a-z])", re.IGNORECASE
)
_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
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


def split_in(path: str) -> str | None:
    """The split that a path names, the last of several; None if it names none.

    >>> split_in("annotations/instances_train2017.json"), split_in("valid/a.json"), split_in("a")
    ('train', 'val', None)
    """
    words = _SPLIT_WORD.findall(path)
    return _SPLIT_NAMES.get(words[-1].lower(), words[-1].lower()) if words else None


class FileFinder:
    """Finds the files below a folder that annotations name, by the end of their path.

    Args:
        relocate: `OLD:NEW`, replaces the beginning of absolute paths.
    """

    def __init__(
        self, root: Path, relocate: str | None = None, suffixes: Sequence[str] = IMAGE_SUFFIXES
    ) -> None:
        self.root = root
        self.old, _, self.new = (relocate or "").partition(":")
        self._by_name: dict[str, list[str]] = {}
        for file in walk(root, suffixes):
            self._by_name.setdefault(file.rpartition("/")[2], []).append(file)

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
        starts = [Path()] if is_absolute(path) else [near or self.root, self.root]
        for start in starts:
            if (start / path).is_file():
                return start / path
        if is_absolute(text) and not self.old:
            raise DataError(
                f"{where} is '{text}', an absolute path that does not exist here. Paths relative "
                "to the file are allowed. Replace its beginning, e.g. "
                f"annotations.relocate={text.rpartition('/')[0] or text}:{self.root}"
            )
        return self._by_longest_end(path, text, where, split)

    def _by_longest_end(self, path: str, text: str, where: str, split: str | None) -> Path:
        """The file whose path has the longest end in common with a path."""
        parts = [p for p in path.split("/") if p not in ("", ".", "..")]
        same_name = self._by_name.get(parts[-1], []) if parts else []
        for length in range(len(parts), 0, -1):
            end = "/" + "/".join(parts[-length:])
            matches = [f for f in same_name if f"/{f}".endswith(end)]
            if split is not None:
                matches = [f for f in matches if split_in(f) == split] or matches
            if len(matches) == 1:
                return self.root / matches[0]
            if matches:
                raise DataError(
                    f"{where} is '{text}', which more than one file could be: "
                    f"{', '.join(matches[:3])}."
                )
        raise DataError(
            f"{where} is '{text}', but there is no such image below '{self.root}'. "
            "Put the images there, or name the folder that holds both."
        )


def json_files(root: Path, is_format: Callable[[Any], bool]) -> list[Path]:
    """The JSON files below root whose content is of a format; files that are no JSON are skipped.

    A file in an encoding that is not read is judged by its keys, which are ASCII: reading it then
    names the encoding.
    """
    files = []
    for file in walk(root, (".json",)):
        try:
            content = read_json(root / file)
        except DataError:
            content = _in_any_encoding(root / file)
        if is_format(content):
            files.append(root / file)
    return files


def _in_any_encoding(path: Path) -> Any:
    """The content of a JSON file whose text may be wrong; None for a file that is no JSON."""
    # in GBK, a backslash may be half of a character; as Latin-1 it would escape what follows
    for encoding in ("gb18030", "latin-1"):
        try:
            return json.loads(path.read_bytes().decode(encoding))
        except (OSError, ValueError, RecursionError):
            continue
    return None


def image_name(path: Path, root: Path) -> str:
    """An image's name in a dataset: its path below root without suffix.

    Folders that name a split, or nothing in particular as `images`, are left out.

    >>> image_name(Path("/set/images/train2017/day/a.png"), Path("/set"))
    'day/a'
    """
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    folders = [
        part
        for part in inside.parts[:-1]
        if part.lower() not in _GENERIC_FOLDERS
        and not re.fullmatch(_SPLIT_WORD.pattern + r"\d*", part, re.IGNORECASE)
    ]
    return "/".join([*folders, inside.stem])
