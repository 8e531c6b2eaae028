"""Robotics: a map of what the ground costs, seen from above, and the cheapest path over it."""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.config.dataset_schema import Settings
from segtune.config.schema import Positive
from segtune.errors import ConfigError
from segtune.inference.regions.regions import Region
from segtune.inference.segmenter import Segmentation
from segtune.inference.workflow.edits.common import Camera, Facts, Picture


class CostMap(Settings):
    """Lays what is seen on the ground onto a grid of metres, keeps clear of obstacles, and plans a path ahead.

    Attributes:
        costs: of a metre on each class; other classes are obstacles.
        range: metres ahead that the map covers.
        width: metres from its left to its right edge.
        cell: metres of a cell's side.
        clearance: metres around obstacles that cost more, falling off linearly.
        goal: metres to the right and ahead; None for the farthest place that can be reached.
        camera: that looks.
    """

    do: Literal["cost_map"]
    costs: dict[str, Positive]
    range: Positive = 30.0
    width: Positive = 16.0
    cell: Positive = 0.2
    clearance: Positive = 0.8
    goal: tuple[float, float] | None = None
    camera: Camera = Camera()

    def names(self) -> list[str]:
        """All names that must be known."""
        return list(self.costs)

    def apply(
        self, picture: Picture, found: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """The picture with the path drawn on the ground, and the map beside it; the facts hold both in metres."""
        costs, seen = self.grid(found, regions)
        path = self.plan(costs)
        metres = [[round(float(x), 2), round(float(z), 2)] for x, z in self._metres(path)]
        facts: Facts = {
            "cell_metres": self.cell, "rows": costs.shape[0], "columns": costs.shape[1],
            "free_share": float(np.isfinite(costs[seen]).mean()) if seen.any() else 0.0,
            "path": metres, "path_cost": round(float(sum(costs[r, c] for r, c in path)) * self.cell, 3),
        }  # fmt: skip
        shown = self._draw_ahead(picture[..., :3].copy(), path)
        return np.concatenate([shown, self._draw_map(costs, seen, path, shown.shape[0])], 1), facts

    def grid(
        self, found: Segmentation, regions: list[Region]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Cost of each cell, row 0 farthest, inf for obstacles and what is not seen; and which cells are seen."""
        size = found.mask.shape[0], found.mask.shape[1]
        rows, columns = int(self.range / self.cell), int(self.width / self.cell)
        z = (rows - np.arange(rows) - 0.5)[:, None] * self.cell
        x = (np.arange(columns) + 0.5)[None] * self.cell - self.width / 2
        u, v = self.camera.pixel(x, 0.0, z, size)
        u, v = np.rint(u).astype(int), np.rint(np.broadcast_to(v, u.shape)).astype(int)
        seen = (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
        per_pixel = np.full(size, np.inf)
        for region in regions:
            cost = self.costs.get(region.label, self.costs.get(region.concept))
            if cost is not None:
                per_pixel[region.mask()] = cost
        costs = np.full((rows, columns), np.inf)
        costs[seen] = per_pixel[v[seen], u[seen]]
        blocked = seen & ~np.isfinite(costs)
        away = (
            cv2.distanceTransform((~blocked).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            * self.cell
        )
        costs *= 1 + 4 * np.clip(1 - away / self.clearance, 0, 1)
        return costs, seen

    def plan(self, costs: NDArray[np.float64]) -> list[tuple[int, int]]:
        """Cells of the cheapest path from the free cell nearest to the robot (Dijkstra, 8 neighbours); [] without one.

        Raises:
            ConfigError: scikit-image is not installed.
        """
        try:
            from skimage.graph import MCP_Geometric
        except ImportError:
            raise ConfigError(
                "planning a path needs scikit-image: pip install 'segtune[uses]'."
            ) from None
        free = np.argwhere(np.isfinite(costs))
        if not len(free):
            return []
        rows, columns = costs.shape
        start = free[np.argmin(np.hypot(free[:, 0] - rows, free[:, 1] - (columns - 1) / 2))]
        planner: Any = MCP_Geometric(
            np.where(np.isfinite(costs), costs, -1)
        )  # negative: never entered
        spent, _ = planner.find_costs([tuple(start)])
        reached = np.argwhere(np.isfinite(spent))
        if self.goal is None:
            nearest = np.lexsort((spent[tuple(reached.T)], reached[:, 0]))[
                0
            ]  # farthest ahead, then cheapest
        else:
            row, column = (
                rows - self.goal[1] / self.cell - 0.5,
                (self.goal[0] + self.width / 2) / self.cell - 0.5,
            )
            nearest = np.argmin(np.hypot(reached[:, 0] - row, reached[:, 1] - column))
        return [(int(r), int(c)) for r, c in planner.traceback(tuple(reached[nearest]))]

    def _metres(self, path: list[tuple[int, int]]) -> NDArray[np.float64]:
        """(N, 2) metres to the right and ahead of a path's cells."""
        cells = np.array(path, float).reshape(-1, 2)
        rows = int(self.range / self.cell)
        return np.stack(
            [
                (cells[:, 1] + 0.5) * self.cell - self.width / 2,
                (rows - cells[:, 0] - 0.5) * self.cell,
            ],
            1,
        )

    def _draw_ahead(self, picture: Picture, path: list[tuple[int, int]]) -> Picture:
        metres = self._metres(path)
        u, v = self.camera.pixel(metres[:, 0], 0.0, metres[:, 1], picture.shape[:2])
        line = np.rint(np.stack([u, v], 1)).astype(np.int32)
        cv2.polylines(picture, [line], False, (255, 255, 255), 4, cv2.LINE_AA)
        cv2.polylines(picture, [line], False, (30, 110, 240), 2, cv2.LINE_AA)
        return picture

    def _draw_map(
        self,
        costs: NDArray[np.float64],
        seen: NDArray[np.bool_],
        path: list[tuple[int, int]],
        height: int,
    ) -> Picture:
        """Green is cheap, yellow dear, red an obstacle, grey not seen."""
        dear = np.log1p(np.where(np.isfinite(costs), costs, 0))
        share = (dear / max(float(dear.max()), 1e-6))[..., None]
        shown = (np.array([70, 170, 90]) * (1 - share) + np.array([245, 210, 70]) * share).astype(
            np.uint8
        )
        shown[seen & ~np.isfinite(costs)] = (200, 60, 50)
        shown[~seen] = 130
        for row, column in path:
            shown[row, column] = (30, 110, 240)
        width = max(1, round(height * costs.shape[1] / costs.shape[0]))
        return np.asarray(
            cv2.resize(shown, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8
        )
