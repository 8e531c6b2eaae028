"""What a prediction has finished, line by line, so that an interrupted one goes on where it stopped."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segtune.errors import ConfigError

NAME = ".progress.jsonl"


class Journal:
    """A file of JSON lines: the settings first, then a line per finished item; each is on disk before the next begins.

    Raises:
        ConfigError: the file is there already and was made with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        plain = json.loads(json.dumps(settings))
        head = next(read_lines(path), None)
        if head is not None and head != plain:
            changed = sorted(k for k in {*head, *plain} if head.get(k) != plain.get(k))
            what = "; ".join(f"{k}: {head.get(k)} -> {plain.get(k)}" for k in changed)
            raise ConfigError(
                f"'{path.parent}' holds an unfinished prediction with other settings ({what}). "
                "Finish that one, choose another output=DIR, or add overwrite=true."
            )
        self._file = path.open("r+" if head is not None else "w", encoding="utf-8")
        self._file.seek(_whole_bytes(path) if head is not None else 0)
        self._file.truncate()
        if head is None:
            self.add(plain)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The lines after the settings."""
        lines = read_lines(self.path)
        next(lines, None)
        yield from lines

    def latest(self) -> Iterator[dict[str, Any]]:
        """The last line of each name, in the file's order: an input that changed is written again."""
        last = {line["name"]: number for number, line in enumerate(self.rows())}
        yield from (line for number, line in enumerate(self.rows()) if last[line["name"]] == number)

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes a line; it is there even if the process is killed right after."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the file; it stays."""
        self._file.close()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a line that was cut off by a kill ends them."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                return
            yield json.loads(line)


def _whole_bytes(path: Path) -> int:
    """Length up to the last line's end."""
    length, block = path.stat().st_size, 1 << 16
    with path.open("rb") as file:
        while length:
            start = max(0, length - block)
            file.seek(start)
            found = file.read(length - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            length = start
    return 0
