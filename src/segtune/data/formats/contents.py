"""What a folder holds, in words, where no reader finds its annotations in it."""

from collections import Counter
from pathlib import Path, PurePosixPath

from segtune.data.formats.manifest import header_of
from segtune.data.source.files import read_json, walk
from segtune.errors import DataError

_MAX_KINDS = 8  # kinds of files that are listed
_MAX_FAULTS = 3  # files whose fault is stated


def contents(root: Path) -> str:
    """The files below a folder, by folder and suffix, and why tables and JSON files say nothing."""
    if root.is_file():
        faults = _faults(root.parent, [root.name])
        return faults[0] if faults else "no table of pairs (.csv, .tsv or .jsonl)"
    files = list(walk(root))
    if not files:
        return "no file"
    kinds = Counter((str(PurePosixPath(f).parent), PurePosixPath(f).suffix or "no") for f in files)
    first: dict[tuple[str, str], str] = {}
    for file in files:
        path = PurePosixPath(file)
        first.setdefault((str(path.parent), path.suffix or "no"), path.name)
    parts = []
    for (folder, suffix), count in list(kinds.items())[:_MAX_KINDS]:
        place = "" if folder == "." else f" in {folder}"
        parts.append(f"{count} {suffix}{place} (as {first[folder, suffix]})")
    if len(kinds) > _MAX_KINDS:
        parts.append(f"{len(files)} files in all")
    return "; ".join([", ".join(parts), *_faults(root, files)[:_MAX_FAULTS]])


def _faults(root: Path, files: list[str]) -> list[str]:
    """Why files that could be annotations were not read."""
    faults = []
    for file in files:
        suffix = PurePosixPath(file).suffix.lower()
        try:
            if suffix == ".json":
                content = read_json(root / file)
                keys = ", ".join(list(content)[:6]) if isinstance(content, dict) else "a list"
                faults.append(f"'{file}' holds {keys}")
            elif suffix in (".csv", ".tsv", ".jsonl"):
                columns = ", ".join(header_of(root / file)[:6]) or "none"
                faults.append(f"'{file}' has the columns {columns}; image and mask are needed")
        except DataError as error:
            faults.append(str(error).rstrip("."))
        if len(faults) == _MAX_FAULTS:
            break
    return faults
