"""What consecutive frames have in common: smoothed logits, a figure for flicker, and regions that keep their number."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from segtune.errors import ConfigError, nearest
from segtune.inference.choices import SMOOTHINGS
from segtune.inference.regions.regions import Region

WARM_UP = 12
"""Frames after which what came before them no longer shows (0.5 ** 12 = 0.0002)."""

_KEPT = 0.5  # of the smoothed logits, where the pixel was seen before
_SAME = 10.0  # grey values by which a pixel may differ from where it came from
_LEAST_IOU = 0.1
_PATIENCE = 8  # frames that a track outlives its region


class Smoother:
    """An exponential mean of logits over time, carried along optical flow or standing still.

    s_t = k w(s_{t-1}) + (1 - k) l_t, with w the warp along the flow from frame t to t - 1 (dense inverse search,
    Kroeger et al., 2016, arXiv 1603.03590), and k = 0 where the pixel left the image or looks another than before.
    Also counts how much of the image flickers, before and after.
    """

    def __init__(self, how: str) -> None:
        if how not in SMOOTHINGS:
            raise ConfigError(f"smooth={how}: {nearest(how, SMOOTHINGS)}")
        self.how = how
        self.before, self.after = Flicker(), Flicker()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._grey: NDArray[np.uint8] | None = None
        self._state: Tensor | None = None

    def step(self, logits: Tensor, image: NDArray[np.uint8]) -> Tensor:
        """Smoothed logits (1, C, H, W) of the next frame, whose image (H, W, 3) has the logits' size."""
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        smoothed = logits
        if self._state is not None and self._grey is not None and self._state.shape == logits.shape:
            grid, seen = self._came_from(grey, self._grey)
            grid, seen = grid.to(logits.device), seen.to(logits.device)
            kept = _KEPT * seen
            if self.how == "flow":
                carried = F.grid_sample(
                    self._state, grid, padding_mode="border", align_corners=False
                )
            else:
                carried, kept = self._state, torch.full_like(kept, _KEPT)
            smoothed = kept * carried + (1 - kept) * logits
            self.before.count(logits, grid, seen)
            self.after.count(smoothed, grid, seen)
        else:
            self.before.begin(logits)
            self.after.begin(logits)
        self._state, self._grey = smoothed, grey
        return smoothed

    def _came_from(
        self, grey: NDArray[np.uint8], previous: NDArray[np.uint8]
    ) -> tuple[Tensor, Tensor]:
        """(1, H, W, 2) places in the previous frame, in [-1, 1], and (H, W) 1 where the pixel was seen there."""
        height, width = grey.shape
        flow = self._flow.calc(grey, previous, np.zeros((height, width, 2), np.float32))
        x = np.arange(width, dtype=np.float32)[None] + flow[..., 0]
        y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
        there = cv2.remap(previous, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        seen = inside & (cv2.absdiff(there, grey) <= _SAME)
        grid = np.stack([(x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / height - 1], -1)
        return torch.from_numpy(grid)[None], torch.from_numpy(seen.astype(np.float32))


@dataclass
class Flicker:
    """Share of the pixels whose class is not that of the place they came from, over all frames but the first."""

    changed: float = 0.0
    counted: float = 0.0
    _last: Tensor | None = None

    def begin(self, logits: Tensor) -> None:
        """The first frame, or one of another size."""
        self._last = logits.max(1, keepdim=True).indices.float()

    def count(self, logits: Tensor, grid: Tensor, seen: Tensor) -> None:
        """Another frame, with its pixels' places in the one before."""
        ids = logits.max(1, keepdim=True).indices.float()
        assert self._last is not None
        before = F.grid_sample(
            self._last, grid, mode="nearest", padding_mode="border", align_corners=False
        )
        self.changed += float(((before != ids)[0, 0] * seen).sum())
        self.counted += float(seen.sum())
        self._last = ids

    @property
    def share(self) -> float:
        """In [0, 1]; 0 where there was nothing to compare."""
        return self.changed / self.counted if self.counted else 0.0


@dataclass
class Tracker:
    """Gives regions of consecutive frames the same number where they show the same thing.

    Regions of one concept are matched by the IoU of their masks, at the least total cost (Hungarian method); a region
    that is gone for a few frames keeps its number.
    """

    _next: int = 0
    _known: dict[int, tuple[Region, int]] = field(default_factory=dict)
    _frame: int = 0

    def update(self, regions: Sequence[Region]) -> list[Region]:
        """The regions of the next frame, with their tracks."""
        self._frame += 1
        tracks: dict[int, int] = {}
        for concept in {r.concept_id for r in regions}:
            fresh = [r for r in regions if r.concept_id == concept]
            old = [(t, r) for t, (r, _) in self._known.items() if r.concept_id == concept]
            if old:
                crowd = [0] * len(old)
                iou = coco_mask.iou(
                    [dict(r.rle) for r in fresh], [dict(r.rle) for _, r in old], crowd
                )
                for row, column in zip(*linear_sum_assignment(-iou), strict=True):
                    if iou[row, column] >= _LEAST_IOU:
                        tracks[fresh[row].id] = old[column][0]
        found = []
        for region in regions:
            if region.id not in tracks:
                tracks[region.id] = self._next
                self._next += 1
            found.append(replace(region, track=tracks[region.id]))
        self._remember(found)
        return found

    def seen(self, regions: Sequence[Region]) -> None:
        """Takes in a frame whose regions have their tracks already."""
        self._frame += 1
        self._remember(regions)
        self._next = max([self._next, *(r.track + 1 for r in regions if r.track is not None)])

    def _remember(self, regions: Sequence[Region]) -> None:
        self._known |= {r.track: (r, self._frame) for r in regions if r.track is not None}
        self._known = {t: k for t, k in self._known.items() if self._frame - k[1] <= _PATIENCE}
