"""Finding the files that annotations speak of: by path, or by how a path ends, and never on another machine."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.files import walk
from segtune.data.source.splits import is_foreign
from segtune.errors import DataError

_SPLIT = re.compile(
    r"(?<![a-z])(train|training|val|valid|validation|test|testing)(?![a-z])", re.IGNORECASE
)
_NAMES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


def split_in(text: str) -> str | None:
    """The split that a path names, the last of several; None where it names none.

    >>> split_in("annotations/instances_train2017.json"), split_in("valid/_annotations.coco.json"), split_in("a.json")
    ('train', 'val', None)
    """
    found = _SPLIT.findall(text)
    return _NAMES.get(found[-1].lower(), found[-1].lower()) if found else None


class Finder:
    """The images below a folder, found by the end of their path.

    Args:
        relocate: `OLD:NEW`, what the beginning of absolute paths is replaced by.
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
        """The file that a path means.

        Args:
            where: file and field, for messages.
            near: folder that a relative path starts from; else root.
            split: prefers files of that split among several of one name.

        Raises:
            DataError: none, or several; or an absolute path of another machine that no `relocate` brings here.
        """
        plain = text.replace("\\", "/")
        if self.old and plain.startswith(self.old):
            plain = self.new + plain[len(self.old) :]
        direct = (
            [Path(plain)] if is_foreign(plain) else [(near or self.root) / plain, self.root / plain]
        )
        for path in direct:
            if path.is_file():
                return path
        if is_foreign(text) and not self.old:
            raise DataError(
                f"{where} is '{text}', an absolute path that does not exist here. Paths relative to the file are "
                f"allowed. Replace its beginning, e.g. annotations.relocate={text.rpartition('/')[0] or text}:"
                f"{self.root}"
            )
        parts = [p for p in plain.split("/") if p not in ("", ".", "..")]
        same = self._by_name.get(parts[-1], []) if parts else []
        for length in range(len(parts), 0, -1):
            tail = "/" + "/".join(parts[-length:])
            match = [f for f in same if f"/{f}".endswith(tail)]
            match = [f for f in match if split is None or split_in(f) == split] or match
            if len(match) == 1:
                return self.root / match[0]
            if match:
                raise DataError(
                    f"{where} is '{text}', which more than one file could be: {', '.join(match[:3])}."
                )
        raise DataError(
            f"{where} is '{text}', but there is no such image below '{self.root}'. Put the images there, or name the "
            "folder that holds both."
        )


def read_json(path: Path) -> Any:
    """A JSON file's content.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"'{path}' cannot be read as JSON: {' '.join(str(error).split())[:200]}"
        ) from None


def name_of(path: Path, root: Path) -> str:
    """An image's name within a dataset: relative to root, without its suffix and folders that only say the split."""
    try:
        inside = path.relative_to(root)
    except ValueError:
        inside = Path(path.name)
    kept = [
        p
        for p in inside.parts[:-1]
        if p.lower() not in _PLAIN and not re.fullmatch(_SPLIT.pattern + r"\d*", p, re.I)
    ]
    return "/".join([*kept, inside.stem])


_PLAIN = {
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
