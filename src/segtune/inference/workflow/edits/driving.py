"""Driving: the road that is free ahead, and what stands in the way."""

from collections import Counter
from typing import Literal

import cv2
import numpy as np

from segtune.config.dataset_schema import Fraction, Settings
from segtune.inference.regions.regions import Region
from segtune.inference.segmenter import Segmentation
from segtune.inference.workflow.edits.common import Camera, Facts, Names, Picture, area, chosen

_FREE, _BLOCKED = (60, 200, 90), (230, 60, 50)


class FreeSpace(Settings):
    """Marks the road up to the first obstacle in each column, and measures how far it reaches.

    Attributes:
        road: what can be driven on.
        obstacles: what must not be hit.
        corridor: share of the image's width, about its middle, in which free metres are measured.
        camera: gives the metres.
    """

    do: Literal["free_space"]
    road: Names = ["road"]
    obstacles: Names = ["car", "person"]
    corridor: Fraction = 0.2
    camera: Camera = Camera()

    def names(self) -> list[str]:
        """All names that must be known."""
        return [*self.road, *self.obstacles]

    def apply(
        self, picture: Picture, found: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """The picture with free road in green and obstacles boxed, nearest first in the facts."""
        size = found.mask.shape[0], found.mask.shape[1]
        road, stands = area(chosen(regions, self.road), size), chosen(regions, self.obstacles)
        free = free_road(road)
        seen = sorted(
            (self._obstacle(r, road, size) for r in stands), key=lambda o: float(o["metres"])
        )
        shown = picture[..., :3].copy()
        shown[free] = np.rint(0.55 * shown[free] + 0.45 * np.array(_FREE)).astype(np.uint8)
        for one in seen:
            x, y, wide, tall = one["box"]
            cv2.rectangle(
                shown,
                (x, y),
                (x + wide - 1, y + tall - 1),
                _BLOCKED if one["on_road"] else (250, 190, 40),
                1,
            )
        facts: Facts = {
            "free_share": float(free.mean()),
            "free_metres": self._metres(free, size),
            "obstacles": seen,
            "counts": dict(Counter(r.label for r in regions)),
        }
        return np.concatenate([shown, picture[..., 3:]], 2), facts

    def _obstacle(self, region: Region, road: np.ndarray, size: tuple[int, int]) -> Facts:
        x, y, wide, tall = region.box
        _, z = self.camera.ground(x + wide / 2, min(y + tall, size[0]) - 1, size)
        under = road[
            y + tall : y + tall + 3, x : x + wide
        ]  # what its foot stands on; none at the lower edge
        return {
            "region": region.id, "label": region.label, "track": region.track, "box": list(region.box),
            "metres": round(min(float(z), 999.0), 2), "on_road": bool(under.mean() > 0.5) if under.size else True,
        }  # fmt: skip

    def _metres(self, free: np.ndarray, size: tuple[int, int]) -> float | None:
        """How far the free road reaches straight ahead; None where there is none at the bottom of the corridor."""
        middle, half = size[1] / 2, max(1.0, self.corridor * size[1] / 2)
        columns = free[:, int(middle - half) : int(np.ceil(middle + half))]
        clear = columns.mean(1) > 0.5
        if not clear[-1]:
            return None
        blocked = np.flatnonzero(~clear)
        top = int(blocked.max()) + 1 if len(blocked) else 0
        return round(min(float(self.camera.ground(middle, top, size)[1]), 999.0), 2)


def free_road(road: np.ndarray) -> np.ndarray:
    """Of a road (H, W), what can be reached from the image's lower edge without leaving it upwards.

    In each column from the lowest row of road on, as long as it goes on; road behind an obstacle is not free.
    """
    started = np.maximum.accumulate(road[::-1], 0)
    broken = np.maximum.accumulate(started & ~road[::-1], 0)
    return np.asarray((started & ~broken)[::-1])
