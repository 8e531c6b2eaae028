"""A journal of finished work: an interrupted prediction resumes from its last line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segtune.errors import ConfigError

NAME = ".progress.jsonl"


class OtherSettings(ConfigError):
    """An unfinished prediction that other settings began."""


class Journal:
    """A file of JSON lines: the settings, then one line per finished item.

    Each line is on disk before the next item begins.

    Raises:
        OtherSettings: the file exists and holds other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        plain = json.loads(json.dumps(settings))
        head = next(read_lines(path), None)
        if head is not None and head != plain:
            changed = sorted(k for k in {*head, *plain} if head.get(k) != plain.get(k))
            changes = "; ".join(f"{k}: {head.get(k)} -> {plain.get(k)}" for k in changed)
            raise OtherSettings(
                f"'{path.parent}' holds an unfinished prediction with other settings ({changes}). "
                "Finish that one, choose another output=DIR, or add overwrite=true."
            )
        self._file = path.open("r+" if head is not None else "w", encoding="utf-8")
        self._file.seek(_complete_length(path) if head is not None else 0)
        self._file.truncate()
        if head is None:
            self.add(plain)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Read the lines after the settings."""
        lines = read_lines(self.path)
        next(lines, None)
        yield from lines

    def latest(self) -> Iterator[dict[str, Any]]:
        """Read the last line of each name: an input that changed has several lines."""
        last = {line["name"]: number for number, line in enumerate(self.rows())}
        for number, line in enumerate(self.rows()):
            if last[line["name"]] == number:
                yield line

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a line; it stays even if the process is killed right afterwards."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file, and keep it."""
        self._file.close()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read the objects of a file of JSON lines, up to a line that a kill has cut off."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                return
            yield json.loads(line)


def _complete_length(path: Path) -> int:
    """Return the length up to the end of the last complete line."""
    length, block = path.stat().st_size, 1 << 16
    with path.open("rb") as file:
        while length:
            start = max(0, length - block)
            file.seek(start)
            end = file.read(length - start).rfind(b"\n")
            if end >= 0:
                return start + end + 1
            length = start
    return 0
