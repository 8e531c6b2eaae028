"""Annotations that cannot be read, and those that are left out: each with its place."""

from collections.abc import Iterator
from contextlib import contextmanager

from segtune.errors import DataError

_EXAMPLES = 3


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Report values of a wrong kind in annotations with their place.

    Args:
        where: file and place in it, as `'a.json' annotations[3]`.

    Raises:
        DataError: the block raised an error that wrong values cause.
    """
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: {error}. Correct it, or remove it from the file.") from None
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise DataError(f"{where} cannot be read ({fault}). Correct or remove it.") from None


class LeftOut:
    """What a reader leaves out, with its places."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}

    def add(self, reason: str, where: str) -> None:
        """Note one place.

        Args:
            reason: what was left out, in the plural, as "shapes without a label were left out".
        """
        self._places.setdefault(reason, []).append(where)

    def notes(self) -> list[str]:
        """A line for each reason: how many, and the first places."""
        lines = []
        for reason, places in self._places.items():
            more = ", …" if len(places) > _EXAMPLES else ""
            lines.append(f"{len(places)} {reason}: {', '.join(places[:_EXAMPLES])}{more}")
        return lines
