"""Which files a prediction wrote, so that a later one removes these and nothing of the user's.

While it works they are noted in a hidden file; when it ends, `regions.json` names them.
"""

import json
import re
import threading
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from segtune.inference.prediction.journal import read_lines

NAME = ".written"


class Record:
    """The files of one output folder; a path is noted on disk before its file is written."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self._lock = threading.Lock()

    def add(self, path: Path) -> Path:
        """Notes a file that is about to be written; gives it back."""
        line = path.relative_to(self.output).as_posix()
        self.output.mkdir(parents=True, exist_ok=True)
        with self._lock, (self.output / NAME).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        return path

    def remove_all(self, kept: Collection[Path]) -> None:
        """Removes what earlier predictions wrote here, and folders that this leaves empty.

        Args:
            kept: files that stay, resolved: those that are about to be read.
        """
        for path in list(self._files()):
            self._remove(path, kept)
        for path in (self.output / "regions").rglob("*.jsonl"):
            if "settings" in next(
                read_lines(path), {}
            ):  # a video's frames, written before there was this record
                self._remove(path, kept)
        self.end()

    def remove_of(self, places: Collection[str], kept: Collection[Path]) -> None:
        """Removes what was written of inputs that are gone or were replaced, by their places in the output."""
        gone = set(places)
        if not gone:
            return
        for path in self._files():
            _, _, place = path.relative_to(self.output).as_posix().partition("/")
            bare = re.sub(r"\.[a-z0-9]+$", "", place)
            if bare in gone or re.sub(r"/\d{6,}$", "", bare) in gone:
                self._remove(path, kept)

    def names(self) -> list[str]:
        """Of the files that were noted since the last prediction ended, relative, in their order."""
        record = self.output / NAME
        return (
            list(dict.fromkeys(record.read_text(encoding="utf-8").splitlines()))
            if record.exists()
            else []
        )

    def end(self) -> None:
        """Forgets what was noted: `regions.json` names it."""
        (self.output / NAME).unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        try:
            ended = json.loads((self.output / "regions.json").read_text(encoding="utf-8")).get(
                "files", []
            )
        except (OSError, ValueError, AttributeError):
            ended = []
        for name in dict.fromkeys([*ended, *self.names()]):
            inside = PurePosixPath(str(name))
            if inside.name and not inside.is_absolute() and ".." not in inside.parts:
                yield self.output / inside

    def _remove(self, path: Path, kept: Collection[Path]) -> None:
        resolved, top = path.resolve(), self.output.resolve()
        if not path.is_file() or resolved in kept or not resolved.is_relative_to(top):
            return
        path.unlink()
        for folder in path.parents:
            if folder == self.output or any(folder.iterdir()):
                return
            folder.rmdir()
