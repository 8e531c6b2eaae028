"""A record of the files that a prediction wrote, so that a later one removes no file of the user.

During the prediction the record is a hidden file. At the end, `regions.json` names the files.
"""

import json
import re
import threading
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from segtune.inference.prediction.journal import read_lines

NAME = ".written"


class Record:
    """The files of one output folder; a path is recorded on disk before its file is written."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self._lock = threading.Lock()

    def add(self, path: Path) -> Path:
        """Record a file that is about to be written; return its path."""
        line = path.relative_to(self.output).as_posix()
        self.output.mkdir(parents=True, exist_ok=True)
        with self._lock, (self.output / NAME).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        return path

    def remove_all(self, inputs: Collection[Path]) -> None:
        """Remove the files of earlier predictions, and folders that are empty afterwards.

        Args:
            inputs: resolved paths that stay, because they are about to be read.
        """
        for path in list(self._files()):
            self._remove(path, inputs)
        for path in (self.output / "regions").rglob("*.jsonl"):
            # the frames of a video, written by a version without this record
            if "settings" in next(read_lines(path), {}):
                self._remove(path, inputs)
        self.end()

    def remove_of(self, stems: Collection[str], inputs: Collection[Path]) -> None:
        """Remove the outputs of changed or missing inputs.

        Args:
            stems: the stems of these inputs in the output; see `Input`.
            inputs: resolved paths that stay, because they are about to be read.
        """
        removed = set(stems)
        if not removed:
            return
        for path in self._files():
            _, _, name = path.relative_to(self.output).as_posix().partition("/")
            stem = re.sub(r"\.[a-z0-9]+$", "", name)
            stem_of_video = re.sub(r"/\d{6,}$", "", stem)
            if stem in removed or stem_of_video in removed:
                self._remove(path, inputs)

    def names(self) -> list[str]:
        """Return the files since the last prediction ended: relative paths, in order."""
        record = self.output / NAME
        if not record.exists():
            return []
        return list(dict.fromkeys(record.read_text(encoding="utf-8").splitlines()))

    def end(self) -> None:
        """Delete the record; `regions.json` names the files now."""
        (self.output / NAME).unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        try:
            document = json.loads((self.output / "regions.json").read_text(encoding="utf-8"))
            names = document.get("files", [])
        except (OSError, ValueError, AttributeError):
            names = []
        for name in dict.fromkeys([*names, *self.names()]):
            relative = PurePosixPath(str(name))
            if relative.name and not relative.is_absolute() and ".." not in relative.parts:
                yield self.output / relative

    def _remove(self, path: Path, inputs: Collection[Path]) -> None:
        resolved = path.resolve()
        is_inside = resolved.is_relative_to(self.output.resolve())
        if not path.is_file() or resolved in inputs or not is_inside:
            return
        path.unlink()
        for folder in path.parents:
            if folder == self.output or any(folder.iterdir()):
                return
            folder.rmdir()
