"""Addresses of servers and databases without the passwords that they may hold."""

import os
import re
from collections.abc import Sequence
from urllib.parse import quote, unquote, urlsplit, urlunsplit

PASSWORD = "MLFLOW_TRACKING_PASSWORD"
"""Environment variable of the tracking server's password; workers inherit it."""
_WITH_PASSWORD = re.compile(r"""(\w://[^/\s:@'"]*):([^/\s'"]+)(?=@)""")


def without_password(url: str) -> str:
    """Return an address without its password and its query, fit to be printed and recorded.

    >>> without_password("postgresql://me:secret@host:5432/studies")
    'postgresql://me@host:5432/studies'
    """
    parts = urlsplit(url)
    if not parts.netloc:  # a file
        return url
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host, query=""))


def move_password(text: str) -> str:
    """Move the password of an address in a text to MLFLOW_TRACKING_PASSWORD.

    Whatever is composed, recorded or printed afterwards holds no password.

    >>> move_password("tracking.uri=http://runs.example.org")
    'tracking.uri=http://runs.example.org'
    """
    match = _WITH_PASSWORD.search(text)
    if match is None:
        return text
    os.environ[PASSWORD] = unquote(match[2])
    return text[: match.start()] + match[1] + text[match.end() :]


def with_password(url: str) -> str:
    """Return the address of a tracking server with the password of MLFLOW_TRACKING_PASSWORD."""
    parts, password = urlsplit(url), os.environ.get(PASSWORD)
    user, at, host = parts.netloc.rpartition("@")
    if not at or ":" in user or not password:
        return url
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def move_passwords(words: Sequence[str]) -> list[str]:
    """Move a password in the words that name the tracking server, see `move_password`.

    Anything that is not text stays, for the check of the words.
    """
    return [move_password(w) if _names_server(w) else w for w in words]


def _names_server(word: object) -> bool:
    keys = ("tracking", "mlflow")  # the second one is a wrong name, which a message repeats
    return isinstance(word, str) and word.lstrip("+~").startswith(keys)
