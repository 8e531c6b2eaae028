"""What a reader declares about its format: what it looks for, and which keys it uses."""

from dataclasses import dataclass
from typing import Any

PAINTING = ("order", "unlabelled")
"""Keys of `dataset.annotations` that every format of areas uses."""

STORED_MASKS = ("mask_format", "label_map", "reduce_zero_label", "ignore_colors", "mask_variable")
"""Keys of `dataset` that say how mask files hold their classes."""


@dataclass(frozen=True)
class Declaration:
    """Facts of a format; a reader states them as `DECLARED`.

    Attributes:
        sought: what its reader looks for.
        keys: those of `dataset.annotations` and of `STORED_MASKS` that change what is read; `z`
            stands for `order=z`. None for a reader that does not say so, as of a plugin.
        has_mask_files: its labels are image files.
        is_export: a tool writes it into a folder, where exports of other tools may lie, too.
    """

    sought: str = "file of this format"
    keys: tuple[str, ...] | None = None
    has_mask_files: bool = False
    is_export: bool = False

    def uses(self, key: str) -> bool:
        """Whether a key changes what the reader returns."""
        return self.keys is None or key in self.keys


def declared(reader: Any) -> Declaration:
    """The declaration of a reader."""
    stated = getattr(reader, "DECLARED", None)
    return stated if isinstance(stated, Declaration) else Declaration()
