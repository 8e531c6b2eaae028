"""Annotations that cannot be read, and those that are left out: each with its place."""

from collections.abc import Iterator, Sequence
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
    """What a reader leaves out, with its places.

    Attributes:
        bad_shapes: the message on each shape that cannot be read.
        specks: the place of each shape that covers one pixel or none.
    """

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}
        self.bad_shapes: list[str] = []
        self.specks: list[str] = []

    @contextmanager
    def bad_shape(self, where: str) -> Iterator[None]:
        """Leave out a shape that the block cannot read; see `refuse_bad_shapes`.

        Args:
            where: file and place in it, with the shape's id.
        """
        try:
            with reading(where):
                yield
        except DataError as error:
            self.bad_shapes.append(str(error))

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


def refuse_bad_shapes(bad_shapes: Sequence[str], total: int, tolerance: float) -> None:
    """Refuse annotations of which more shapes are bad than may be left out.

    Args:
        bad_shapes: the message on each.
        total: shapes of the dataset, with the bad ones.
        tolerance: `dataset.tolerance`, share of the shapes that may be left out.

    Raises:
        DataError: there are more.
    """
    allowed = int(total * tolerance)
    if len(bad_shapes) > allowed:
        raise DataError(
            f"{' '.join(bad_shapes[:_EXAMPLES])} Of {total:,} shapes, {len(bad_shapes):,} or more "
            f"cannot be read; dataset.tolerance={tolerance:g} leaves out {allowed:,} at most."
        )


def bad_shapes_note(bad_shapes: Sequence[str], total: int, tolerance: float) -> list[str]:
    """The note on shapes that are left out; empty if there are none."""
    if not bad_shapes:
        return []
    more = " …" if len(bad_shapes) > _EXAMPLES else ""
    return [
        f"{len(bad_shapes):,} of {total:,} shapes cannot be read and were left out "
        f"(dataset.tolerance={tolerance:g}): {' '.join(bad_shapes[:_EXAMPLES])}{more}"
    ]


def specks_note(specks: Sequence[str], total: int) -> list[str]:
    """The note on shapes of one pixel or none; empty if there are none.

    Raises:
        DataError: no shape is larger.
    """
    if not specks:
        return []
    places = ", ".join(specks[:_EXAMPLES]) + (", …" if len(specks) > _EXAMPLES else "")
    if len(specks) == total:
        raise DataError(
            f"all {total:,} shapes cover one pixel or none: {places}. Are their points shares of "
            "the image's size (0..1)? Pixels are expected. Export them in pixels."
        )
    return [f"{len(specks):,} of {total:,} shapes cover one pixel or none: {places}"]
