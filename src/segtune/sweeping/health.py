"""Damaged journals of the studies on this machine: find and repair them."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from segtune.runtime.atomic import atomic_file
from segtune.sweeping.engine.locks import ProcessLock


@dataclass(frozen=True)
class Damage:
    """A journal with an unreadable line.

    Attributes:
        line: number of the first unreadable line, from 1.
        lost: number of lines from there to the end. The later lines depend on the damaged one.
    """

    path: Path
    line: int
    lost: int


def damaged_journals(root: Path) -> list[Damage]:
    """Find the damaged journals under a store's root.

    An incomplete last line is no damage: the next writer removes it.
    """
    damages = []
    paths = sorted((root / "sweeps").glob("*/journal.log"))
    for path in filter(Path.is_file, paths):  # a pipe would wait forever
        lines = path.read_bytes().split(b"\n")[:-1]
        for index, line in enumerate(lines):
            if not _is_entry(line):
                damages.append(Damage(path, index + 1, len(lines) - index))
                break
    return damages


def repair_journal(damage: Damage) -> Path:
    """Cut a journal before its first unreadable line; return the path of a copy of the original.

    Later lines name trials by number. Without the damaged line those numbers could mean other
    trials, so the later lines are dropped as well.
    """
    copy = damage.path.with_name(f"{damage.path.name}.damaged")
    with ProcessLock(damage.path.with_suffix(".lock")):
        shutil.copyfile(damage.path, copy)
        lines = damage.path.read_bytes().split(b"\n")[: damage.line - 1]
        with atomic_file(damage.path) as unfinished:
            unfinished.write_bytes(b"".join(line + b"\n" for line in lines))
    return copy


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
