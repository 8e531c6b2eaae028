"""Palettes that differ between the masks of one dataset, so that one index means two classes."""

from collections.abc import Sequence

from segtune.data.audit.examine import Color, PairFacts
from segtune.data.audit.findings import Finding
from segtune.data.source.layout import Source

_REPAIR = (
    "give each class its color in dataset.classes and read the masks by colour: "
    "dataset.mask_format=rgb; or store all masks with one palette"
)


def check_palettes(source: Source, pairs: Sequence[PairFacts]) -> list[Finding]:
    """Find masks in which a colour has another index than in the masks before them.

    An export with a palette for each file numbers the colours by how often they occur: its indices
    are no class ids, though each of them is known.
    """
    index_of: dict[Color, tuple[int, PairFacts]] = {}
    files: list[str] = []
    details: list[str] = []
    for pair in pairs:
        form = source.mask_format(pair.image) or source.config.mask_format
        if pair.mask is None or form != "index":
            continue
        for color, index in _unique_colors(pair).items():
            first_index, first = index_of.setdefault(color, (index, pair))
            if index != first_index and first.mask is not None:
                mask = source.short(pair.mask)
                files.append(mask)
                details.append(
                    f"'{mask}': the colour {color} is index {index}, but {first_index} in "
                    f"'{source.short(first.mask)}'"
                )
                break
    return [Finding("mask_palettes_differ", files, details, _REPAIR)] if files else []


def _unique_colors(pair: PairFacts) -> dict[Color, int]:
    """Colour -> index, of the colours that one used index of the mask's palette has."""
    colors = list(pair.palette.values())
    return {c: index for index, c in pair.palette.items() if colors.count(c) == 1}
