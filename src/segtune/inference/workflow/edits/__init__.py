"""Edits: steps of a workflow that change the picture, or measure facts about it.

Edits apply one after the other. `apply(picture, segmentation, regions)` gets the picture of the
edit before, and the original image with its mask. It returns the new picture and the facts.
Pictures are (H, W, 3) or, with an alpha channel, (H, W, 4) uint8.
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
"""Any edit; `do` is its name."""
