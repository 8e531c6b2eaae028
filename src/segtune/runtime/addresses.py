"""Addresses of servers and databases without the passwords that they may hold."""

from urllib.parse import urlsplit, urlunsplit


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
