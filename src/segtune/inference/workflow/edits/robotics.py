"""Robotics: a cost map of the ground, seen from above, and the cheapest path over it."""

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

_CHEAP, _EXPENSIVE = (70, 170, 90), (245, 210, 70)
_OBSTACLE, _INVISIBLE, _PATH = (200, 60, 50), (130, 130, 130), (30, 110, 240)

Cell = tuple[int, int]
"""(row, column) of the map; row 0 is the farthest."""


class CostMap(Settings):
    """Project the ground onto a grid in metres, keep clear of obstacles, and plan a path ahead.

    Attributes:
        costs: cost of a metre per class; other classes are obstacles.
        range: metres ahead that the map covers.
        width: metres from its left to its right edge.
        cell: metres of a cell's side.
        clearance: metres around obstacles that cost more, less with distance.
        goal: metres to the right and ahead; None for the farthest place that can be reached.
        camera: converts pixels to metres.
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
        """Return all names that must be known."""
        return list(self.costs)

    def apply(
        self, picture: Picture, segmentation: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """Return the picture with the path on the ground and the map beside it, and the facts."""
        costs, visible = self.grid(segmentation, regions)
        path = self.plan(costs)
        path_cost = float(sum(costs[cell] for cell in path)) * self.cell
        facts: Facts = {
            "cell_metres": self.cell,
            "rows": costs.shape[0],
            "columns": costs.shape[1],
            "free_share": float(np.isfinite(costs[visible]).mean()) if visible.any() else 0.0,
            "path": [[round(float(x), 2), round(float(z), 2)] for x, z in self._metres(path)],
            "path_cost": round(path_cost, 3),
        }
        drawn = self._draw_path(picture[..., :3].copy(), path)
        cost_map = _draw_map(costs, visible, path, drawn.shape[0])
        return np.concatenate([drawn, cost_map], 1), facts

    def grid(
        self, segmentation: Segmentation, regions: list[Region]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the cost of each cell, and whether it is visible.

        The cost is inf for obstacles and invisible cells.
        """
        size = segmentation.mask.shape[0], segmentation.mask.shape[1]
        u, v = self._pixels(size)
        visible = (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
        cost_of_pixel = np.full(size, np.inf)
        for region in regions:
            cost = self.costs.get(region.label, self.costs.get(region.concept))
            if cost is not None:
                cost_of_pixel[region.mask()] = cost
        costs = np.full(u.shape, np.inf)
        costs[visible] = cost_of_pixel[v[visible], u[visible]]
        is_obstacle = visible & ~np.isfinite(costs)
        cells_away = cv2.distanceTransform(
            (~is_obstacle).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
        )
        costs *= 1 + 4 * np.clip(1 - cells_away * self.cell / self.clearance, 0, 1)
        return costs, visible

    def _pixels(self, size: tuple[int, int]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        """Return column and row of the pixel at the centre of each cell."""
        rows, columns = int(self.range / self.cell), int(self.width / self.cell)
        z = (rows - np.arange(rows) - 0.5)[:, None] * self.cell
        x = (np.arange(columns) + 0.5)[None] * self.cell - self.width / 2
        u, v = np.broadcast_arrays(*self.camera.pixel(x, 0.0, z, size))
        return np.rint(u).astype(int), np.rint(v).astype(int)

    def plan(self, costs: NDArray[np.float64]) -> list[Cell]:
        """Return the cells of the cheapest path (Dijkstra, 8 neighbours).

        It starts at the free cell nearest to the robot. Without a free cell it is empty.

        Raises:
            ConfigError: scikit-image is not installed.
        """
        try:
            from skimage.graph import MCP_Geometric
        except ImportError:
            raise ConfigError(
                "planning a path needs scikit-image: pip install 'segtune[uses]'."
            ) from None
        is_free = np.isfinite(costs)
        free = np.argwhere(is_free)
        if not len(free):
            return []
        rows, columns = costs.shape
        start = free[np.argmin(np.hypot(free[:, 0] - rows, free[:, 1] - (columns - 1) / 2))]
        planner: Any = MCP_Geometric(np.where(is_free, costs, -1))  # negative cells are closed
        path_costs, _ = planner.find_costs([tuple(start)])
        reached = np.argwhere(np.isfinite(path_costs))
        if self.goal is None:  # the farthest cell ahead, the cheapest of several
            end = np.lexsort((path_costs[tuple(reached.T)], reached[:, 0]))[0]
        else:
            goal_row = rows - self.goal[1] / self.cell - 0.5
            goal_column = (self.goal[0] + self.width / 2) / self.cell - 0.5
            end = np.argmin(np.hypot(reached[:, 0] - goal_row, reached[:, 1] - goal_column))
        return [(int(row), int(column)) for row, column in planner.traceback(tuple(reached[end]))]

    def _metres(self, path: list[Cell]) -> NDArray[np.float64]:
        """Return (N, 2) metres to the right and ahead of a path's cells."""
        cells = np.array(path, float).reshape(-1, 2)
        rows = int(self.range / self.cell)
        x = (cells[:, 1] + 0.5) * self.cell - self.width / 2
        z = (rows - cells[:, 0] - 0.5) * self.cell
        return np.stack([x, z], 1)

    def _draw_path(self, picture: Picture, path: list[Cell]) -> Picture:
        metres = self._metres(path)
        u, v = self.camera.pixel(metres[:, 0], 0.0, metres[:, 1], picture.shape[:2])
        line = np.rint(np.stack([u, v], 1)).astype(np.int32)
        cv2.polylines(picture, [line], False, (255, 255, 255), 4, cv2.LINE_AA)
        cv2.polylines(picture, [line], False, _PATH, 2, cv2.LINE_AA)
        return picture


def _draw_map(
    costs: NDArray[np.float64], visible: NDArray[np.bool_], path: list[Cell], height: int
) -> Picture:
    """Draw the map: cheap is green, expensive yellow, an obstacle red, an invisible cell grey."""
    is_free = np.isfinite(costs)
    log_costs = np.log1p(np.where(is_free, costs, 0))
    share = (log_costs / max(float(log_costs.max()), 1e-6))[..., None]
    colours = np.array(_CHEAP) * (1 - share) + np.array(_EXPENSIVE) * share
    drawn = colours.astype(np.uint8)
    drawn[visible & ~is_free] = _OBSTACLE
    drawn[~visible] = _INVISIBLE
    for row, column in path:
        drawn[row, column] = _PATH
    width = max(1, round(height * costs.shape[1] / costs.shape[0]))
    return np.asarray(cv2.resize(drawn, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
