"""The `segtune …` commands that README and docs/ show."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = re.compile(r"<!-- not run: (.+) -->")  # on the line above a block: why no test runs it
_COMMAND = re.compile(r"(?:^|\| |[A-Z_]+=\S+ )(?:\.venv/bin/)?segtune (.*)")
_INLINE = re.compile(r"`segtune ([^`]*)`")
_OPTIONAL = re.compile(r"(?<=\s)\[([^\[\]]+)\](?=\s|$)")  # [--baseline A]


@dataclass(frozen=True)
class Shown:
    """A command of a page.

    Attributes:
        place: page and line.
        text: everything after `segtune`.
        in_block: it stands in a block of code, so that readers copy it; else within a sentence.
        reason: why it is not run; empty without a mark.
    """

    place: str
    text: str
    in_block: bool
    reason: str = ""

    @property
    def words(self) -> list[str]:
        """The words that a shell passes; of a usage, with all that it calls optional."""
        text = _OPTIONAL.sub(r"\1", self.text)
        words = [w for w in shlex.split(text, comments=True) if w != "…"]
        return [w.partition("|")[0] if w.count("|") and "=" not in w else w for w in words]


def shown_commands(page: Path) -> Iterator[Shown]:
    """Yield the commands of a page in their order."""
    reason, language = "", None  # None: outside of blocks
    joined = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        place = f"{page.name}:{number}"
        if line.startswith("```"):
            language = line[3:].strip() if language is None else None
            reason = reason if language is not None else ""
        elif language is None:
            marked = MARK.match(line)
            reason = marked[1] if marked else ""
            for text in _INLINE.findall(line):
                yield Shown(place, text, in_block=False)
        elif language in ("", "bash", "sh", "console"):
            joined += line.removesuffix("\\")
            if line.endswith("\\"):
                continue
            if found := _COMMAND.search(joined):
                yield Shown(place, found[1], in_block=True, reason=reason)
            joined = ""
