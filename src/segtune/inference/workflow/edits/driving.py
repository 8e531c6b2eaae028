"""Driving: the free road ahead, and the obstacles."""

from collections import Counter
from typing import Literal

import cv2
import numpy as np

from segtune.config.dataset_schema import Fraction, Settings
from segtune.inference.regions.regions import Region
from segtune.inference.segmenter import Segmentation
from segtune.inference.workflow.edits.common import (
    Camera,
    Facts,
    Names,
    Picture,
    select,
    union_mask,
)

_FREE, _ON_ROAD, _BESIDE_ROAD = (60, 200, 90), (230, 60, 50), (250, 190, 40)


class FreeSpace(Settings):
    """Mark the road up to the first obstacle in each column, and measure its length.

    Attributes:
        road: names of drivable concepts.
        obstacles: names of obstacles.
        corridor: share of the image's width, around its middle, for measuring the free metres.
        camera: converts pixels to metres.
    """

    do: Literal["free_space"]
    road: Names = ["road"]
    obstacles: Names = ["car", "person"]
    corridor: Fraction = 0.2
    camera: Camera = Camera()

    def names(self) -> list[str]:
        """Return all names that must be known."""
        return [*self.road, *self.obstacles]

    def apply(
        self, picture: Picture, segmentation: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """Return the picture with free road in green and boxes of obstacles, and the facts.

        The facts name the nearest obstacle first.
        """
        size = segmentation.mask.shape[0], segmentation.mask.shape[1]
        road = union_mask(select(regions, self.road), size)
        free = free_road(road)
        obstacles = [self._obstacle(r, road, size) for r in select(regions, self.obstacles)]
        obstacles.sort(key=lambda o: float(o["metres"]))
        drawn = picture[..., :3].copy()
        drawn[free] = np.rint(0.55 * drawn[free] + 0.45 * np.array(_FREE)).astype(np.uint8)
        for obstacle in obstacles:
            x, y, width, height = obstacle["box"]
            color = _ON_ROAD if obstacle["on_road"] else _BESIDE_ROAD
            cv2.rectangle(drawn, (x, y), (x + width - 1, y + height - 1), color, 1)
        facts: Facts = {
            "free_share": float(free.mean()),
            "free_metres": self._free_metres(free, size),
            "obstacles": obstacles,
            "counts": dict(Counter(r.label for r in regions)),
        }
        return np.concatenate([drawn, picture[..., 3:]], 2), facts

    def _obstacle(self, region: Region, road: np.ndarray, size: tuple[int, int]) -> Facts:
        x, y, width, height = region.box
        bottom = y + height
        _, z = self.camera.ground(x + width / 2, min(bottom, size[0]) - 1, size)
        ground = road[bottom : bottom + 3, x : x + width]  # empty at the lower edge of the image
        return {
            "region": region.id,
            "label": region.label,
            "track": region.track,
            "box": list(region.box),
            "metres": round(min(float(z), 999.0), 2),
            "on_road": bool(ground.mean() > 0.5) if ground.size else True,
        }

    def _free_metres(self, free: np.ndarray, size: tuple[int, int]) -> float | None:
        """Return the length of the free road straight ahead; None if its lower end is not free."""
        middle, half = size[1] / 2, max(1.0, self.corridor * size[1] / 2)
        columns = free[:, int(middle - half) : int(np.ceil(middle + half))]
        clear = columns.mean(1) > 0.5
        if not clear[-1]:
            return None
        blocked = np.flatnonzero(~clear)
        top = int(blocked.max()) + 1 if len(blocked) else 0
        return round(min(float(self.camera.ground(middle, top, size)[1]), 999.0), 2)


def free_road(road: np.ndarray) -> np.ndarray:
    """Return the part of a road (H, W) that connects to its lowest row in each column.

    Road behind an obstacle is not free.
    """
    started = np.maximum.accumulate(road[::-1], 0)
    broken = np.maximum.accumulate(started & ~road[::-1], 0)
    return np.asarray((started & ~broken)[::-1])
