"""The things of a street scene: buildings, trees, poles, signs, people, vehicles."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segtune.data.street.canvas import Canvas
from segtune.data.street.shapes import (
    Color,
    across_street,
    along_street,
    flat,
    pick,
    upright,
    vary,
)

NEAR = 1.2  # metres from the camera: nothing nearer is drawn
_PAINTS = [
    (200, 30, 30),
    (30, 60, 180),
    (235, 235, 235),
    (25, 25, 28),
    (190, 190, 195),
    (220, 180, 20),
    (20, 110, 60),
]
_WALLS = [
    (168, 110, 88),
    (190, 180, 160),
    (140, 140, 150),
    (205, 170, 120),
    (120, 95, 90),
    (96, 112, 130),
]
_CLOTHES = [
    (180, 40, 50),
    (40, 70, 150),
    (60, 60, 60),
    (220, 200, 60),
    (70, 130, 80),
    (230, 230, 230),
    (110, 60, 130),
]


def _house(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    height = rng.uniform(4.5, 9)
    size = (rng.uniform(7, 14), rng.uniform(7, 12), height)
    _box(canvas, x, z, size, vary(rng, pick(rng, _WALLS), 20), "house", rng)
    if z > NEAR:
        side = np.sign(x) or 1.0
        roof = np.array(
            [[x, height, z], [x + side * 10, height, z], [x + side * 5, height + 3, z]], np.float64
        )
        canvas.fill(roof, vary(rng, (125, 60, 45), 25), "building", "house")


def _tower(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    wall = vary(rng, pick(rng, _WALLS[2:]), 20)
    size = (rng.uniform(10, 18), rng.uniform(8, 14), rng.uniform(20, 60))
    _box(canvas, x, z, size, wall, "skyscraper", rng)


def _box(
    canvas: Canvas,
    x: float,
    z: float,
    size: tuple[float, float, float],
    wall: Color,
    finer: str,
    rng: np.random.Generator,
) -> None:
    """A building whose facade stands at x along the street, from z on.

    Args:
        size: length along the street, depth away from it, and height, in metres.
    """
    length, depth, height = size
    near, far, side = max(z, NEAR), z + length, np.sign(x) or 1.0
    if far <= near:
        return
    canvas.fill(along_street(x, near, far, 0, height), wall, "building", finer)
    darker: Color = (int(wall[0] * 0.78), int(wall[1] * 0.78), int(wall[2] * 0.78))
    canvas.fill(across_street(x, x + side * depth, near, 0, height), darker, "building", finer)
    is_dark = rng.random() < 0.7
    glass = vary(rng, (70, 85, 100), 30) if is_dark else vary(rng, (235, 215, 150), 20)
    for level in np.arange(1.2, height - 1.5, 3.0):
        for start in np.arange(z + 1, far - 1.5, 3.0):
            if start > NEAR:
                window = along_street(x, start, start + 1.4, level, level + 1.5)
                canvas.shade(window, glass)
        if z > NEAR:
            for start in np.arange(1, depth - 1.5, 3.0):
                left, right = x + side * start, x + side * (start + 1.4)
                canvas.shade(across_street(left, right, z, level, level + 1.5), glass)


def _tree(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    if z < NEAR:
        return
    height, green = rng.uniform(2.2, 4), vary(rng, (52, 105, 40), 30)
    canvas.fill(upright(x, z, 0.18, 0, height), vary(rng, (84, 62, 44), 15), "tree")
    for _ in range(7):
        center = (x + rng.normal(0, 0.7), height + rng.normal(0.8, 0.6), z)
        canvas.disc(center, rng.uniform(0.6, 1.25), vary(rng, green, 16), "tree")


def _pole(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    if z < NEAR:
        return
    height, grey = rng.uniform(5, 8), vary(rng, (105, 108, 112), 30)
    canvas.fill(upright(x, z, rng.uniform(0.11, 0.17), 0, height), grey, "pole")
    arm = x - np.sign(x) * 1.4
    bar = np.array(
        [[x, height, z], [arm, height, z], [arm, height - 0.22, z], [x, height - 0.22, z]],
        np.float64,
    )
    canvas.fill(bar, grey, "pole")


def _sign(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    if z < NEAR:
        return
    height = rng.uniform(2.2, 2.9)
    canvas.fill(upright(x, z, 0.09, 0, height), vary(rng, (130, 130, 130), 20), "pole")
    color = pick(rng, [(205, 30, 40), (20, 70, 180), (240, 200, 30), (25, 130, 60)])
    shape = rng.integers(3)
    if shape == 0:
        canvas.disc((x, height, z), 0.45, color, "sign")
    elif shape == 1:
        canvas.fill(upright(x, z, 0.45, height - 0.4, height + 0.4), color, "sign")
    else:
        corners = [[x - 0.5, height - 0.4, z], [x + 0.5, height - 0.4, z], [x, height + 0.5, z]]
        canvas.fill(np.array(corners), color, "sign")
    canvas.shade(upright(x, z, 0.2, height - 0.08, height + 0.08), (240, 240, 240))


def _person(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    if z < NEAR:
        return
    finer = "child" if rng.random() < 0.35 else "adult"
    tall = rng.uniform(0.95, 1.25) if finer == "child" else rng.uniform(1.6, 1.9)
    wide, skin = tall * 0.14, vary(rng, (200, 155, 125), 35)
    for leg in (-1, 1):
        canvas.fill(
            upright(x + leg * wide * 0.55, z, wide * 0.42, 0, tall * 0.5),
            vary(rng, (50, 55, 75), 25),
            "person",
            finer,
        )
    canvas.fill(upright(x, z, wide, tall * 0.46, tall * 0.84), pick(rng, _CLOTHES), "person", finer)
    canvas.disc(
        (x, tall * 0.91, z), tall * (0.1 if finer == "child" else 0.075), skin, "person", finer
    )


@dataclass(frozen=True)
class Vehicle:
    """Draws vehicles of one kind; sizes are in metres."""

    kind: str
    width: float
    height: float
    length: float

    def __call__(self, canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
        if z < NEAR:
            return
        paint, half = vary(rng, pick(rng, _PAINTS), 12), self.width / 2
        body = self.height * 0.55 if self.kind == "sedan" else self.height
        far = z + self.length
        flank = x - half if x > 0 else x + half  # the side that the camera sees
        dark: Color = (int(paint[0] * 0.7), int(paint[1] * 0.7), int(paint[2] * 0.7))
        canvas.shade(flat(x - half - 0.1, x + half + 0.1, z, far), (30, 30, 32))
        for edge in (-half, half):
            wheel = upright(x + edge * 0.8, z, 0.14, 0, 0.5)
            canvas.fill(wheel, (20, 20, 20), "car", self.kind)
        canvas.fill(along_street(flank, z, far, 0.3, body), dark, "car", self.kind)
        if self.kind == "sedan":
            self._cabin(canvas, x, z, body, paint)
        canvas.fill(upright(x, z, half, 0.3, body), paint, "car", self.kind)
        if self.kind == "bus":
            low, high = self.height * 0.5, self.height * 0.85
            canvas.shade(upright(x, z, half * 0.85, low, high), (60, 75, 90))
            for start in np.arange(z + 0.8, far - 1.2, 1.6):
                canvas.shade(along_street(flank, start, start + 1.2, low, high), (60, 75, 90))
        if self.kind == "truck":
            box = upright(x, z, half * 0.92, 0.9, self.height * 0.94)
            canvas.shade(box, (200, 200, 196))
        lamp = (230, 40, 40) if x > 0 else (250, 245, 210)
        for edge in (-half, half):
            canvas.shade(upright(x + edge * 0.78, z, 0.13, 0.62, 0.82), lamp)

    def _cabin(self, canvas: Canvas, x: float, z: float, body: float, paint: Color) -> None:
        """The glass and the roof of a sedan."""
        bottom, roof, top = self.width / 2 * 0.85, self.width / 2 * 0.65, self.height
        glass = [
            [x - bottom, body, z + 0.6],
            [x - roof, top, z + 1.2],
            [x + roof, top, z + 1.2],
            [x + bottom, body, z + 0.6],
        ]
        canvas.fill(np.array(glass), (45, 55, 65), "car", self.kind)
        ridge = [
            [x - roof, top, z + 1.2],
            [x + roof, top, z + 1.2],
            [x + roof, top - 0.12, z + 1.2],
            [x - roof, top - 0.12, z + 1.2],
        ]
        canvas.shade(np.array(ridge), paint)


THIN = ("pole", "sign", "person")
"""Kinds that are drawn near the camera only."""

DRAW: dict[str, Callable[[Canvas, float, float, np.random.Generator], None]] = {
    "house": _house,
    "tower": _tower,
    "tree": _tree,
    "pole": _pole,
    "sign": _sign,
    "person": _person,
    "sedan": Vehicle("sedan", 1.8, 1.5, 4.2),
    "truck": Vehicle("truck", 2.4, 3.1, 7.0),
    "bus": Vehicle("bus", 2.5, 3.2, 11.0),
}
"""Kind -> function that draws it at (x, z) in metres."""
