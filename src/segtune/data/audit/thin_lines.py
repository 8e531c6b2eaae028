"""Ids that lie as thin lines between others: thin classes, or traces of interpolation."""

from collections.abc import Sequence

from segtune.data.audit.examine import PairFacts
from segtune.data.audit.findings import Finding
from segtune.data.reading.blending import RESIZE_AGAIN, Interpolation, between_words
from segtune.data.source.layout import Source


def thin_line(source: Source, faulty: Sequence[PairFacts], together: Interpolation | None) -> str:
    """The end of a repair: the words that say that ids in between are classes.

    Empty where values in between are no class.

    Args:
        together: what all masks together show.
    """
    shown = [pair.interpolation for pair in faulty if pair.interpolation is not None]
    shown += [together] if together is not None else []
    lines = [source.masks.thin_line(found) for found in shown]
    return f".{max(lines, key=len)}" if lines and all(lines) else ""


def lines_between(
    source: Source, pairs: Sequence[PairFacts], together: Interpolation | None
) -> list[Finding]:
    """Masks whose borders lead through ids that may be thin classes, or may be interpolated."""
    if together is None or together.is_certain:
        return []
    shown = [p for p in pairs if p.mask and p.interpolation and not p.interpolation.is_certain]
    shown = shown or [p for p in pairs if p.mask and p.is_in_order]
    files = [source.short(pair.mask) for pair in shown if pair.mask]
    details = [
        f"'{file}': {between_words(pair.interpolation or together)}"
        for file, pair in zip(files, shown, strict=True)
    ]
    repair = f"{RESIZE_AGAIN}{source.masks.thin_line(together)}"
    return [Finding("mask_thin_lines", files, details, repair)]
