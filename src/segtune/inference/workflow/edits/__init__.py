"""Edits: what a workflow makes of an image and its regions. Each takes a picture and gives one, and may state facts.

They come one after the other: `apply(picture, found, regions)` gets the picture that the edit before left, beside
the untouched image with its mask. Pictures are (H, W, 3) or, with an alpha channel, (H, W, 4) uint8.
"""

from typing import Annotated

from pydantic import Field

from segtune.inference.workflow.edits.augmented import Place
from segtune.inference.workflow.edits.driving import FreeSpace
from segtune.inference.workflow.edits.editing import Blur, CutOut, Move, Remove, Replace
from segtune.inference.workflow.edits.robotics import CostMap

Edit = Annotated[
    Blur | CutOut | Move | Remove | Replace | FreeSpace | CostMap | Place,
    Field(discriminator="do"),
]
"""Any of them; `do` says which."""
