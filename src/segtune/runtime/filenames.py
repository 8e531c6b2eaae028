"""Names that users choose as names of folders: readable, and no two of them share one."""

import hashlib
import re

_LONGEST = 80
_PLAIN = re.compile(r"[a-z0-9_][a-z0-9_.@-]*")
_LIKE_OURS = re.compile(r".*-[0-9a-f]{8}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.")  # on Windows


def folder_name(*names: str) -> str:
    """A folder's name for one or several names.

    Names of lower-case letters, digits and `_.@-` stay as they are. Others are shortened and end in a hash, so that
    names that differ only by case, by other characters or behind the 80th one get folders of their own.

    >>> folder_name("quickstart"), folder_name("a", "b-c"), folder_name("a-b", "c")
    ('quickstart', 'a+b-c', 'a-b+c')
    >>> folder_name("quickstart:confirmed")
    'quickstart-confirmed-70d80edb'
    >>> folder_name("Roads") == folder_name("roads")
    False
    """
    joined = "+".join(names)
    taken = any(
        _LIKE_OURS.fullmatch(n) or _RESERVED.fullmatch(n) or not _PLAIN.fullmatch(n) for n in names
    )
    if not taken and len(joined) <= _LONGEST:
        return joined
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    words = "+".join(re.sub(r"[^\w.@-]+", "-", n).strip("-.") for n in names)
    readable = words.encode("ascii", "ignore").decode()[: _LONGEST - 9].strip("-.+") or "report"
    return f"{readable}-{digest}"
