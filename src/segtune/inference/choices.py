"""The closed choices of `predict`. The command line reads them for its help: keep imports light."""

from typing import Literal, get_args

Split = Literal["concept", "components"]
Average = Literal["none", "flip", "scales"]
Smoothing = Literal["none", "exponential", "flow"]

SPLITS: tuple[str, ...] = get_args(Split)
AVERAGES: tuple[str, ...] = get_args(Average)
SMOOTHINGS: tuple[str, ...] = get_args(Smoothing)
