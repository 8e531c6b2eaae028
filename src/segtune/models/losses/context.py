"""The facts of a run that a loss may need: a parameter `context` of its constructor takes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segtune.config.schema import LossConfig


@dataclass(frozen=True)
class LossContext:
    """The config of the loss, and the train data.

    Attributes:
        shares: share of each class among the counted pixels of the train masks, (num_classes,).
    """

    config: LossConfig
    shares: Sequence[float] | NDArray[np.float64]
