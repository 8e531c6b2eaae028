"""The closed choices of `predict`. The command line reads them for its help: keep imports light."""

from typing import Literal, get_args

Split = Literal["concept", "components"]
Output = Literal["masks", "overlays", "regions", "coco", "geojson", "yolo", "clarifai"]
Average = Literal["none", "flip", "scales"]
Smoothing = Literal["none", "exponential", "flow"]
Engine = Literal["auto", "eager", "bf16", "onnx", "openvino"]

SPLITS: tuple[str, ...] = get_args(Split)
OUTPUT_FORMATS: tuple[str, ...] = get_args(Output)
"""Files that `predict` can write."""
AVERAGES: tuple[str, ...] = get_args(Average)
SMOOTHINGS: tuple[str, ...] = get_args(Smoothing)
ENGINES: tuple[str, ...] = get_args(Engine)
