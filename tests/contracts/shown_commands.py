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
    for line in _lines(page):
        if line.language is None:
            for text in _INLINE.findall(line.text):
                yield Shown(line.place, text, in_block=False)
        elif line.is_shell and (found := _COMMAND.search(line.text)):
            yield Shown(line.place, found[1], in_block=True, reason=line.reason)


def other_commands(page: Path) -> Iterator[Shown]:
    """Yield the commands of other programs in blocks of code; `text` is the whole line."""
    for line in _lines(page):
        if line.is_shell and line.text.strip() and not _COMMAND.search(line.text):
            yield Shown(line.place, line.text, in_block=True, reason=line.reason)


def python_blocks(page: Path) -> list[str]:
    """Return the blocks of Python of a page that no mark excepts."""
    blocks: dict[str, list[str]] = {}
    for line in _lines(page):
        if line.language == "python" and not line.reason:
            blocks.setdefault(line.block, []).append(line.text)
    return ["\n".join(lines) for lines in blocks.values()]


@dataclass(frozen=True)
class _Line:
    """A line of a page; of a command over several lines, all of them.

    Attributes:
        language: of the block of code; None outside of blocks.
        block: place of the block.
        reason: of the mark above the block.
    """

    place: str
    text: str
    language: str | None
    block: str
    reason: str

    @property
    def is_shell(self) -> bool:
        return self.language in ("", "bash", "sh", "console")


def _lines(page: Path) -> Iterator[_Line]:
    language, block, reason, joined = None, "", "", ""
    for number, text in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        place = f"{page.name}:{number}"
        if text.startswith("```"):
            language = text[3:].strip() if language is None else None
            block = place
            reason = reason if language is not None else ""
            continue
        if language is None:
            marked = MARK.match(text)
            reason = marked[1] if marked else ""
        line = _Line(place, joined + text, language, block, reason)
        joined = line.text.removesuffix("\\") if line.is_shell and text.endswith("\\") else ""
        if not joined:
            yield line
