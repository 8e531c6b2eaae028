"""Turn users' names (classes, splits, images) into readable, unique keys and file names.

MLflow allows letters and digits of any script, `/`, `_`, `-`, `.` and spaces, at most 250
characters, and no path such as `a//b` or `..`. A valid name stays as it is. In any other name, the
forbidden characters are replaced and a hash of the original name is added at the end, so that
`crack <5%` and `crack >5%` remain two metrics.
"""

import hashlib
import posixpath
import re
import unicodedata

_LONGEST_KEY = 250
# bytes of a file name; most file systems allow 255, and suffixes are added
_LONGEST_PART = 180
_HASH_SUFFIX = re.compile(r"-x[0-9a-f]{10}$")
_REPLACEMENTS = {
    "<": "lt",
    "≤": "le",
    ">": "gt",
    "≥": "ge",
    "=": "eq",
    "%": "pct",
    "&": "and",
    "+": "plus",
}
_FORBIDDEN_IN_FILES = re.compile(r'[<>:"|?*%#\\\x00-\x1f\x7f]')
# names of devices on Windows, with any suffix
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)


def key_name(name: str) -> str:
    """Return the key of a metric, parameter or tag.

    >>> key_name("val/iou/道路"), key_name("val/iou/traffic light")
    ('val/iou/道路', 'val/iou/traffic light')
    >>> key_name("iou/crack <5%"), key_name("iou/crack >5%")
    ('iou/crack lt5pct-xa6740ec7ad', 'iou/crack gt5pct-x28dc7dd859')
    """
    allowed = all(_is_allowed(c) for c in name)
    normal = posixpath.normpath(name) == name and not name.startswith(("/", ".."))
    if allowed and normal and len(name) <= _LONGEST_KEY and not _HASH_SUFFIX.search(name):
        return name
    characters = unicodedata.normalize("NFC", name)
    readable = "".join(c if _is_allowed(c) else _REPLACEMENTS.get(c, "_") for c in characters)
    parts = [part for part in readable.split("/") if part.strip(".")]
    suffix = _hash_suffix(name)
    return ("/".join(parts).lstrip(".") or "name")[: _LONGEST_KEY - len(suffix)] + suffix


def file_name(name: str) -> str:
    """Return a file name or relative path, without a suffix, for an image or a split.

    >>> file_name("left/017"), file_name("a?b")
    ('left/017', 'a_b-xc2a7b64a2d')
    """
    parts = name.split("/")
    if all(_is_valid_part(part) for part in parts) and not _HASH_SUFFIX.search(name):
        return name
    readable = [_FORBIDDEN_IN_FILES.sub("_", part).strip(". ") for part in parts]
    valid = [_shortened(part) for part in readable if part]
    return "/".join(valid or ["name"]) + _hash_suffix(name)


def legacy_key(name: str) -> str:
    """Return a metric's key in runs of segtune 0.1.0; several names may share one key."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "/_-. ") else "_" for c in name)


def _is_allowed(character: str) -> bool:
    return character.isalnum() or character in "/_-. "


def _is_valid_part(part: str) -> bool:
    fits = 0 < len(part.encode(errors="replace")) <= _LONGEST_PART
    if not fits or part != part.strip(" ."):
        return False
    return not _FORBIDDEN_IN_FILES.search(part) and not _RESERVED.match(part)


def _shortened(part: str) -> str:
    name = f"_{part}" if _RESERVED.match(part) else part
    return name.encode(errors="replace")[:_LONGEST_PART].decode(errors="ignore")


def _hash_suffix(name: str) -> str:
    return "-x" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:10]
