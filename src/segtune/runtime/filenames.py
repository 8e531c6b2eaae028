"""Names of files and folders that several rooms use.

A folder name made of names that users choose is readable, portable and unique.
"""

import hashlib
import re

STUDY_FILE = "study_id"
"""In a sweep's folder: the id of its study."""

_MAX_LENGTH = 80
_PLAIN = re.compile(r"[a-z0-9_][a-z0-9_.@-]*")
_HASHED = re.compile(r".*-[0-9a-f]{8}")  # the form of the names that this module makes
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.")  # on Windows


def folder_name(*names: str) -> str:
    """Make one folder name of one or several names.

    Names of lower-case letters, digits and `_.@-` stay as they are. Other names are shortened and
    get a hash: names that differ only by case, by special characters or after the 80th character
    have different folders.

    >>> folder_name("quickstart"), folder_name("a", "b-c"), folder_name("a-b", "c")
    ('quickstart', 'a+b-c', 'a-b+c')
    >>> folder_name("quickstart:confirmed")
    'quickstart-confirmed-70d80edb'
    >>> folder_name("Roads") == folder_name("roads")
    False
    """
    joined = "+".join(names)
    if len(joined) <= _MAX_LENGTH and all(_is_portable(name) for name in names):
        return joined
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    words = "+".join(re.sub(r"[^\w.@-]+", "-", name).strip("-.") for name in names)
    readable = words.encode("ascii", "ignore").decode()[: _MAX_LENGTH - 9].strip("-.+") or "report"
    return f"{readable}-{digest}"


def _is_portable(name: str) -> bool:
    if _HASHED.fullmatch(name) or _RESERVED.fullmatch(name):
        return False
    return bool(_PLAIN.fullmatch(name))
