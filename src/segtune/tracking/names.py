"""Names of users (classes, splits, images) as MLflow and file systems take them: readable, and no two alike.

MLflow's keys hold letters and digits of any script, `/`, `_`, `-`, `.` and spaces, at most 250 of them, and no path
that leads elsewhere (`a//b`, `..`). A name that fits is kept. Any other is spelled with what is allowed, and ends in a
hash of the whole name, so that `crack <5%` and `crack >5%` stay two metrics.
"""

import hashlib
import posixpath
import re
import unicodedata

_LONGEST_KEY = 250
_LONGEST_PART = 180  # bytes of a file name; most file systems take 255, and suffixes are added
_MARK = re.compile(r"-x[0-9a-f]{10}$")
_SPELLED = {
    "<": "lt",
    "≤": "le",
    ">": "gt",
    "≥": "ge",
    "=": "eq",
    "%": "pct",
    "&": "and",
    "+": "plus",
}
_FOREIGN_TO_FILES = re.compile(r'[<>:"|?*%#\\\x00-\x1f\x7f]')
_RESERVED = re.compile(
    r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE
)  # on Windows, with any suffix


def key_name(name: str) -> str:
    """A key of a metric, parameter or tag.

    >>> key_name("val/iou/道路"), key_name("val/iou/traffic light")
    ('val/iou/道路', 'val/iou/traffic light')
    >>> key_name("iou/crack <5%"), key_name("iou/crack >5%")
    ('iou/crack lt5pct-xa6740ec7ad', 'iou/crack gt5pct-x28dc7dd859')
    """
    allowed = all(_is_allowed(c) for c in name)
    whole = posixpath.normpath(name) == name and not name.startswith(("/", ".."))
    if allowed and whole and len(name) <= _LONGEST_KEY and not _MARK.search(name):
        return name
    spelled = "".join(
        c if _is_allowed(c) else _SPELLED.get(c, "_") for c in unicodedata.normalize("NFC", name)
    )
    parts = [part for part in spelled.split("/") if part.strip(".")]
    mark = _mark(name)
    return ("/".join(parts).lstrip(".") or "name")[: _LONGEST_KEY - len(mark)] + mark


def file_name(name: str) -> str:
    """A file name or relative path, without its suffix: of an image's name, which may hold folders, or of a split.

    >>> file_name("left/017"), file_name("a?b")
    ('left/017', 'a_b-xc2a7b64a2d')
    """
    parts = name.split("/")
    if all(_is_file_part(part) for part in parts) and not _MARK.search(name):
        return name
    spelled = [_FOREIGN_TO_FILES.sub("_", part).strip(". ") for part in parts]
    kept = [_cut(part) for part in spelled if part]
    return "/".join(kept or ["name"]) + _mark(name)


def legacy_key(name: str) -> str:
    """The key of a metric in runs that segtune 0.1.0 recorded: several names may share one."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "/_-. ") else "_" for c in name)


def _is_allowed(character: str) -> bool:
    return character.isalnum() or character in "/_-. "


def _is_file_part(part: str) -> bool:
    fits = part == part.strip(" .") and 0 < len(part.encode(errors="replace")) <= _LONGEST_PART
    return fits and not _FOREIGN_TO_FILES.search(part) and not _RESERVED.match(part)


def _cut(part: str) -> str:
    named = f"_{part}" if _RESERVED.match(part) else part
    return named.encode(errors="replace")[:_LONGEST_PART].decode(errors="ignore")


def _mark(name: str) -> str:
    return "-x" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:10]
