"""Consistency over the frames of a video: smoothed logits, flicker, and tracks of regions."""

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
"""Frames after which earlier frames no longer count (0.5 ** 12 = 0.0002)."""

_MEMORY = 0.5  # weight of the earlier frames, for pixels that were visible before
_TOLERANCE = 10.0  # grey values by which a pixel may differ from its place in the previous frame
_MIN_IOU = 0.1
_PATIENCE = 8  # frames for which a track stays without a region


class Smoother:
    """An exponential mean of logits over time, either fixed in place or moved by optical flow.

    s_t = k w(s_{t-1}) + (1 - k) l_t, where w is the warp along the flow from frame t to t - 1
    (dense inverse search, Kroeger et al., 2016, arXiv 1603.03590). k is 0 where the pixel left the
    image or changed its appearance. The smoother also measures the flicker before and after.
    """

    def __init__(self, method: str) -> None:
        if method not in SMOOTHINGS:
            raise ConfigError(f"smooth={method}: {nearest(method, SMOOTHINGS)}")
        self.method = method
        self.before, self.after = Flicker(), Flicker()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._grey: NDArray[np.uint8] | None = None
        self._state: Tensor | None = None

    def step(self, logits: Tensor, image: NDArray[np.uint8]) -> Tensor:
        """Smooth the logits (1, C, H, W) of the next frame, whose image is (H, W, 3)."""
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        smoothed = logits
        if self._state is not None and self._grey is not None and self._state.shape == logits.shape:
            grid, is_visible = self._origins(grey, self._grey)
            grid, is_visible = grid.to(logits.device), is_visible.to(logits.device)
            if self.method == "flow":
                weight = _MEMORY * is_visible
                previous = F.grid_sample(
                    self._state, grid, padding_mode="border", align_corners=False
                )
            else:
                weight, previous = torch.full_like(is_visible, _MEMORY), self._state
            smoothed = weight * previous + (1 - weight) * logits
            self.before.count(logits, grid, is_visible)
            self.after.count(smoothed, grid, is_visible)
        else:
            self.before.begin(logits)
            self.after.begin(logits)
        self._state, self._grey = smoothed, grey
        return smoothed

    def _origins(
        self, grey: NDArray[np.uint8], previous: NDArray[np.uint8]
    ) -> tuple[Tensor, Tensor]:
        """Find each pixel in the previous frame.

        Returns:
            positions (1, H, W, 2) in [-1, 1], and (H, W) float: 1 where the pixel was visible.
        """
        height, width = grey.shape
        flow = self._flow.calc(grey, previous, np.zeros((height, width, 2), np.float32))
        x = np.arange(width, dtype=np.float32)[None] + flow[..., 0]
        y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
        warped = cv2.remap(previous, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        is_inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        is_visible = is_inside & (cv2.absdiff(warped, grey) <= _TOLERANCE)
        grid = np.stack([(x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / height - 1], -1)
        return torch.from_numpy(grid)[None], torch.from_numpy(is_visible.astype(np.float32))


@dataclass
class Flicker:
    """The share of pixels whose class differs from that of their origin in the previous frame."""

    changed: float = 0.0
    counted: float = 0.0
    _previous: Tensor | None = None

    def begin(self, logits: Tensor) -> None:
        """Take the first frame, or one of another size."""
        self._previous = logits.max(1, keepdim=True).indices.float()

    def count(self, logits: Tensor, grid: Tensor, is_visible: Tensor) -> None:
        """Take the next frame; `grid` holds its pixels' positions in the previous frame."""
        ids = logits.max(1, keepdim=True).indices.float()
        assert self._previous is not None
        moved = F.grid_sample(
            self._previous, grid, mode="nearest", padding_mode="border", align_corners=False
        )
        self.changed += float(((moved != ids)[0, 0] * is_visible).sum())
        self.counted += float(is_visible.sum())
        self._previous = ids

    @property
    def share(self) -> float:
        """In [0, 1]; 0 where no pixels were compared."""
        return self.changed / self.counted if self.counted else 0.0


@dataclass
class Tracker:
    """Give each object the same number in all frames of a video.

    Regions of one concept are matched by the IoU of their masks (Hungarian method). A region that
    is hidden for a few frames keeps its number.
    """

    _next: int = 0
    _tracks: dict[int, tuple[Region, int]] = field(default_factory=dict)  # last region and frame
    _frame: int = 0

    def update(self, regions: Sequence[Region]) -> list[Region]:
        """Return the regions of the next frame with their tracks."""
        self._frame += 1
        track_of: dict[int, int] = {}
        for concept in {r.concept_id for r in regions}:
            track_of |= self._match([r for r in regions if r.concept_id == concept], concept)
        tracked = []
        for region in regions:
            if region.id not in track_of:
                track_of[region.id] = self._next
                self._next += 1
            tracked.append(replace(region, track=track_of[region.id]))
        self._remember(tracked)
        return tracked

    def resume(self, regions: Sequence[Region]) -> None:
        """Take a frame of an earlier call, whose regions have tracks already."""
        self._frame += 1
        self._remember(regions)
        self._next = max([self._next, *(r.track + 1 for r in regions if r.track is not None)])

    def _match(self, regions: Sequence[Region], concept: int) -> dict[int, int]:
        """Match regions of one concept with tracks: region id -> track."""
        tracks = [(n, r) for n, (r, _) in self._tracks.items() if r.concept_id == concept]
        if not tracks:
            return {}
        new_masks = [dict(r.rle) for r in regions]
        old_masks = [dict(r.rle) for _, r in tracks]
        iou = coco_mask.iou(new_masks, old_masks, [0] * len(tracks))
        matches = {}
        for row, column in zip(*linear_sum_assignment(-iou), strict=True):
            if iou[row, column] >= _MIN_IOU:
                matches[regions[row].id] = tracks[column][0]
        return matches

    def _remember(self, regions: Sequence[Region]) -> None:
        self._tracks |= {r.track: (r, self._frame) for r in regions if r.track is not None}
        self._tracks = {
            number: (region, frame)
            for number, (region, frame) in self._tracks.items()
            if self._frame - frame <= _PATIENCE
        }
