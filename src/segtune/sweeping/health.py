"""Journals of studies on this machine: which are damaged, and how one is made readable again."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock


@dataclass(frozen=True)
class Damage:
    """A journal with a line that cannot be read.

    Attributes:
        line: number of the first such line, from 1.
        lost: lines from there to the end; those behind it build on it.
    """

    path: Path
    line: int
    lost: int


def damaged_journals(root: Path) -> list[Damage]:
    """The damaged journals under a store's root.

    Half a line at the end is no damage: the next writer takes it away.
    """
    found = []
    for path in sorted((root / "sweeps").glob("*/journal.log")):
        lines = path.read_bytes().split(b"\n")[:-1]
        bad = next((number for number, line in enumerate(lines) if not _is_entry(line)), None)
        if bad is not None:
            found.append(Damage(path, bad + 1, len(lines) - bad))
    return found


def repair_journal(damage: Damage) -> Path:
    """Cuts a journal before its damage; returns the copy that is kept of what it was.

    Later lines name trials by number. Without the damaged line those numbers could mean other
    trials, so none of them is kept.
    """
    copy = damage.path.with_name(f"{damage.path.name}.damaged")
    with FileLock(damage.path.with_suffix(".lock")):
        shutil.copyfile(damage.path, copy)
        lines = damage.path.read_bytes().split(b"\n")[: damage.line - 1]
        temporary = damage.path.with_suffix(".repaired")
        temporary.write_bytes(b"".join(line + b"\n" for line in lines))
        temporary.replace(damage.path)
    return copy


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
