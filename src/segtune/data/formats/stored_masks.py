"""Notes of an import on masks that others stored."""

from collections.abc import Sequence

from segtune.classes import ClassTable
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.reading.blending import RESIZE_AGAIN, between_words, interpolation_words
from segtune.data.reading.borders import Borders
from segtune.data.reading.masks import MaskReader


def interpolation_note(
    borders: Borders, table: ClassTable, thin_classes: Sequence[str]
) -> list[str]:
    """A note on masks that were resized with interpolation, or may have been; else empty.

    Args:
        borders: of the class ids of all masks together.
    """
    config = DatasetConfig(name="import", source="folder", thin_classes=list(thin_classes))
    reader = MaskReader(config, table)
    found = reader.interpolation_in(borders)
    if found is None:
        return []
    words = interpolation_words(found) if found.is_certain else between_words(found)
    return [f"the masks hold {words}. {RESIZE_AGAIN}{reader.thin_line(found)}"]
