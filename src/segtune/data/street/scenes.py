"""The built-in street scenes: drawn from a small 3-D model, so that every pixel's class is exact.

A scene is a straight street in perspective with buildings, trees, cars, people, poles and signs; light, weather,
camera and occlusion vary with the seed. The camera can drive through it, which gives clips. Image and mask come from
the same polygons; only the image then gets texture, fog, rain and noise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.data.street.shapes import Color, Points, flat, noise, pick, upright, vary

CLASSES = ("sky", "building", "road", "pavement", "grass", "tree", "car", "person", "pole", "sign")
FINER = {
    "building": ("house", "skyscraper"),
    "road": ("asphalt", "cobblestone"),
    "car": ("sedan", "truck", "bus"),
    "person": ("adult", "child"),
}
NO_FINER = 255
"""What a finer mask holds where a class has no finer labels."""

_ID = {name: index for index, name in enumerate(CLASSES)}
_FAR, _NEAR = 90.0, 1.2  # metres from the camera
_SMALL_FAR = 32.0  # thin things are drawn up to here: further away they would be specks that no annotator labels
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


@dataclass(frozen=True)
class Frame:
    """One drawn view: `image` (H, W, 3) uint8 RGB, `mask` (H, W) uint8 of class ids, `finer` (H, W) uint8."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    finer: NDArray[np.uint8]


@dataclass(frozen=True)
class Thing:
    """Something that stands on the ground: x to the right and z ahead in metres, speed along z in m/s."""

    kind: str
    x: float
    z: float
    seed: int
    speed: float = 0.0


class Canvas:
    """Image, mask, finer mask and depth, painted far to near with the same polygons."""

    def __init__(
        self, height: int, width: int, focal: float, horizon: float, camera_height: float
    ) -> None:
        self.height, self.width = height, width
        self.focal, self.horizon, self.camera_height = focal, horizon, camera_height
        self.image = np.zeros((height, width, 3), np.uint8)
        self.mask = np.zeros((height, width), np.uint8)
        self.finer = np.full((height, width), NO_FINER, np.uint8)
        self.depth = np.full((height, width), 400.0, np.float32)

    def project(self, points: Points) -> NDArray[np.int32]:
        """Pixels (N, 2) of points (N, 3) given as x, y above the ground, z in metres."""
        z = np.maximum(points[:, 2], 0.3)
        u = self.width / 2 + self.focal * points[:, 0] / z
        v = self.horizon + self.focal * (self.camera_height - points[:, 1]) / z
        return np.rint(np.stack([u, v], 1)).clip(-20000, 20000).astype(np.int32)

    def fill(self, points: Points, color: Color, label: str, finer: str = "") -> None:
        """Paints the polygon through the 3-D points."""
        polygon = [self.project(points)]
        cv2.fillPoly(self.image, polygon, color)
        cv2.fillPoly(self.mask, polygon, _ID[label])
        cv2.fillPoly(self.finer, polygon, FINER[label].index(finer) if finer else NO_FINER)
        cv2.fillPoly(self.depth, polygon, float(points[:, 2].mean()))

    def shade(self, points: Points, color: Color) -> None:
        """Paints colour alone: a window, a marking, a shadow on what is there already."""
        cv2.fillPoly(self.image, [self.project(points)], color)

    def disc(
        self,
        center: tuple[float, float, float],
        radius: float,
        color: Color,
        label: str,
        finer: str = "",
    ) -> None:
        """Paints a disc of the given radius in metres that faces the camera."""
        angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        x, y, z = center
        self.fill(
            np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle), np.full(14, z)], 1),
            color,
            label,
            finer,
        )


class Scene:
    """A street drawn from a seed; `render` shows it from the camera's place after `seconds` of driving."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rng_seed = seed
        self.camera_height = rng.uniform(1.3, 2.4)
        self.horizon = rng.uniform(0.36, 0.5)
        self.zoom = rng.uniform(0.8, 1.15)
        self.shift = rng.uniform(-1.5, 1.5)
        self.road = rng.uniform(3.2, 5.5)  # half widths and widths in metres
        self.pavement = rng.uniform(1.5, 3.0)
        self.surface = "cobblestone" if rng.random() < 0.3 else "asphalt"
        self.light = rng.choice(["day", "dusk", "night", "overcast"], p=[0.45, 0.2, 0.12, 0.23])
        self.fog = rng.choice([0.0, rng.uniform(0.004, 0.02)], p=[0.65, 0.35])
        self.rain = bool(rng.random() < 0.2)
        self.speed = rng.uniform(3.0, 9.0)
        self.urban = rng.random()
        self.things = sorted(self._populate(rng), key=lambda t: -t.z)

    def _populate(self, rng: np.random.Generator) -> list[Thing]:
        things: list[Thing] = []

        def add(kind: str, x: float, z: float, speed: float = 0.0) -> None:
            things.append(Thing(kind, x, z, int(rng.integers(2**31)), speed))

        edge = self.road + self.pavement
        for side in (-1, 1):
            z = rng.uniform(0, 12)
            while z < 160:
                length = rng.uniform(8, 18)
                if rng.random() < 0.35 + 0.5 * self.urban:
                    add(
                        "tower" if rng.random() < 0.15 + 0.4 * self.urban else "house",
                        side * (edge + rng.uniform(0.5, 5)),
                        z,
                    )
                z += length + rng.uniform(0, 5)
            for kind, gap, low, high in (
                ("tree", 14, 0.3, 4.0),
                ("pole", 18, -0.5, 0.2),
                ("sign", 24, -0.7, 0.1),
            ):
                z = rng.uniform(4, 4 + gap)
                while z < 130:
                    add(kind, side * (edge + rng.uniform(low, high)), z)
                    z += rng.uniform(0.5, 1.6) * gap
            z = rng.uniform(4, 14)
            while z < 110:  # people mostly on the pavement, some on the road
                x = (
                    rng.uniform(0.1, self.pavement - 0.2) + self.road
                    if rng.random() < 0.85
                    else rng.uniform(0, self.road)
                )
                add("person", side * x, z, rng.uniform(-1.3, 1.3))
                z += rng.uniform(3, 16)
            z = rng.uniform(5, 16)
            while z < 120:
                ahead = side > 0
                parked = rng.random() < 0.35
                lane = self.road - 1.1 if parked else self.road * rng.uniform(0.42, 0.55)
                kind = rng.choice(["sedan", "truck", "bus"], p=[0.66, 0.18, 0.16])
                add(
                    str(kind),
                    side * lane,
                    z,
                    0.0 if parked else (rng.uniform(2, 9) if ahead else rng.uniform(-9, -4)),
                )
                z += rng.uniform(9, 26)
        return things

    def render(self, height: int, width: int, seconds: float = 0.0) -> Frame:
        """The view of the scene, (height, width) in pixels."""
        canvas = Canvas(
            height, width, self.zoom * width * 0.9, self.horizon * height, self.camera_height
        )
        rng = np.random.default_rng([self.rng_seed, 1])
        self._sky(canvas, rng)
        self._ground(canvas, rng)
        travelled = self.speed * seconds
        placed = [(t, t.z - travelled + t.speed * seconds) for t in self.things]
        for thing, z in sorted(placed, key=lambda p: -p[1]):
            if _NEAR - 9 < z < (_SMALL_FAR if thing.kind in _SMALL else _FAR):
                _DRAW[thing.kind](
                    canvas, thing.x - self.shift, z, np.random.default_rng(thing.seed)
                )
        self._weather(canvas, np.random.default_rng([self.rng_seed, 2, int(seconds * 1000)]))
        return Frame(canvas.image, canvas.mask, canvas.finer)

    def _sky(self, canvas: Canvas, rng: np.random.Generator) -> None:
        top, low = {
            "day": ((70, 130, 220), (190, 215, 240)),
            "dusk": ((60, 60, 120), (240, 150, 90)),
            "night": ((8, 10, 28), (40, 42, 66)),
            "overcast": ((140, 146, 152), (205, 208, 210)),
        }[self.light]
        ramp = np.linspace(0, 1, canvas.height)[:, None, None] / max(self.horizon, 0.1)
        sky = np.array(top) * (1 - ramp.clip(0, 1)) + np.array(low) * ramp.clip(0, 1)
        clouds = noise(rng, canvas.height, canvas.width, 5)[..., None] * rng.uniform(0, 55)
        canvas.image[:] = (sky + clouds).clip(0, 255).astype(np.uint8)

    def _ground(self, canvas: Canvas, rng: np.random.Generator) -> None:
        def strip(left: float, right: float) -> Points:
            left, right = left - self.shift, right - self.shift
            return np.array(
                [[left, 0, 0.6], [left, 0, 600], [right, 0, 600], [right, 0, 0.6]], np.float64
            )

        grey = int(rng.integers(60, 115))
        canvas.fill(strip(-900, 900), vary(rng, (88, 130, 60), 25), "grass")
        edge = self.road + self.pavement
        canvas.fill(strip(-edge, edge), vary(rng, (168, 160, 150), 25), "pavement")
        canvas.fill(strip(-self.road, self.road), (grey, grey, grey + 4), "road", self.surface)
        rows = np.arange(canvas.height, dtype=np.float32)
        below = np.maximum(rows - canvas.horizon, 0.5)
        distance = canvas.focal * canvas.camera_height / below
        ground = rows > canvas.horizon
        canvas.depth[ground] = distance[ground, None]
        if self.surface == "cobblestone":
            self._cobbles(canvas, distance)
        else:
            for z in np.arange(2 + rng.uniform(0, 3), 80, 6):
                canvas.shade(
                    flat(-0.08 - self.shift, 0.08 - self.shift, z, z + 2.5), (225, 225, 215)
                )
        grain = noise(rng, canvas.height, canvas.width, 2)[..., None] * 22
        blended = canvas.image[ground].astype(np.float32) + grain[ground]
        canvas.image[ground] = blended.clip(0, 255).astype(np.uint8)

    def _cobbles(self, canvas: Canvas, distance: NDArray[np.float32]) -> None:
        columns = (
            (np.arange(canvas.width) - canvas.width / 2)[None, :] * distance[:, None] / canvas.focal
        )
        row = np.floor(distance[:, None] / 0.45)
        joint = ((distance[:, None] % 0.45) < 0.12) | (((columns + 0.2 * row) % 0.4) < 0.1)
        stones = (canvas.mask == _ID["road"]) & joint & (distance[:, None] < 22)
        canvas.image[stones] = (canvas.image[stones] * 0.62).astype(np.uint8)

    def _weather(self, canvas: Canvas, rng: np.random.Generator) -> None:
        image = canvas.image.astype(np.float32)
        if self.fog:
            clear = np.exp(-self.fog * canvas.depth)[..., None]
            image = image * clear + (1 - clear) * (215 if self.light != "night" else 70)
        gain, tint = {
            "day": (1.05, (1.02, 1.0, 0.96)),
            "dusk": (0.75, (1.12, 0.95, 0.85)),
            "night": (0.38, (0.9, 0.95, 1.2)),
            "overcast": (0.88, (0.98, 1.0, 1.03)),
        }[self.light]
        image *= gain * np.array(tint, np.float32)
        if self.rain:
            for _ in range(canvas.width // 3):
                x, y = rng.integers(canvas.width), rng.integers(canvas.height)
                length = int(rng.integers(4, 10))
                cv2.line(image, (int(x), int(y)), (int(x) + 1, int(y) + length), (190, 190, 200), 1)
        image += rng.normal(0, rng.uniform(2, 7), image.shape[:2])[..., None]
        blurred = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.8))
        canvas.image = blurred.clip(0, 255).astype(np.uint8)


def _house(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    height = rng.uniform(4.5, 9)
    _box(
        canvas,
        x,
        z,
        rng.uniform(7, 14),
        rng.uniform(7, 12),
        height,
        vary(rng, pick(rng, _WALLS), 20),
        "house",
        rng,
    )
    if z > _NEAR:
        side = np.sign(x) or 1.0
        roof = np.array(
            [[x, height, z], [x + side * 10, height, z], [x + side * 5, height + 3, z]], np.float64
        )
        canvas.fill(roof, vary(rng, (125, 60, 45), 25), "building", "house")


def _tower(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    wall = vary(rng, pick(rng, _WALLS[2:]), 20)
    _box(
        canvas,
        x,
        z,
        rng.uniform(10, 18),
        rng.uniform(8, 14),
        rng.uniform(20, 60),
        wall,
        "skyscraper",
        rng,
    )


def _box(
    canvas: Canvas, x: float, z: float, length: float, depth: float, height: float, wall: Color, finer: str,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """A building whose facade stands at x along the street, from z to z + length."""
    near, far, side = max(z, _NEAR), z + length, np.sign(x) or 1.0
    if far <= near:
        return
    facade = np.array([[x, 0, near], [x, height, near], [x, height, far], [x, 0, far]], np.float64)
    canvas.fill(facade, wall, "building", finer)
    front = np.array(
        [
            [x, 0, near],
            [x, height, near],
            [x + side * depth, height, near],
            [x + side * depth, 0, near],
        ]
    )
    darker: Color = (int(wall[0] * 0.78), int(wall[1] * 0.78), int(wall[2] * 0.78))
    canvas.fill(front, darker, "building", finer)
    glass = vary(rng, (70, 85, 100), 30) if rng.random() < 0.7 else vary(rng, (235, 215, 150), 20)
    for level in np.arange(1.2, height - 1.5, 3.0):
        for start in np.arange(z + 1, far - 1.5, 3.0):
            if start > _NEAR:
                quad = [
                    [x, level, start],
                    [x, level + 1.5, start],
                    [x, level + 1.5, start + 1.4],
                    [x, level, start + 1.4],
                ]
                canvas.shade(np.array(quad), glass)
        if z > _NEAR:
            for start in np.arange(1, depth - 1.5, 3.0):
                a, b = x + side * start, x + side * (start + 1.4)
                canvas.shade(
                    np.array(
                        [[a, level, z], [a, level + 1.5, z], [b, level + 1.5, z], [b, level, z]]
                    ),
                    glass,
                )


def _tree(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    if z < _NEAR:
        return
    height, green = rng.uniform(2.2, 4), vary(rng, (52, 105, 40), 30)
    canvas.fill(upright(x, z, 0.18, 0, height), vary(rng, (84, 62, 44), 15), "tree")
    for _ in range(7):
        center = (x + rng.normal(0, 0.7), height + rng.normal(0.8, 0.6), z)
        canvas.disc(center, rng.uniform(0.6, 1.25), vary(rng, green, 16), "tree")


def _pole(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    if z < _NEAR:
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
    if z < _NEAR:
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
    if z < _NEAR:
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


def _vehicle(kind: str, wide: float, tall: float, long: float) -> Callable[..., None]:
    def draw(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
        if z < _NEAR:
            return
        paint, half, top = vary(rng, pick(rng, _PAINTS), 12), wide / 2, tall
        body = tall * 0.55 if kind == "sedan" else tall
        far = z + long
        inner = -half if x > 0 else half  # the flank that the camera sees
        dark: Color = (int(paint[0] * 0.7), int(paint[1] * 0.7), int(paint[2] * 0.7))
        shadow = flat(x - half - 0.1, x + half + 0.1, z, far)
        canvas.shade(shadow, (30, 30, 32))
        for edge in (-half, half):
            canvas.fill(upright(x + edge * 0.8, z, 0.14, 0, 0.5), (20, 20, 20), "car", kind)
        flank = np.array(
            [
                [x + inner, 0.3, z],
                [x + inner, body, z],
                [x + inner, body, far],
                [x + inner, 0.3, far],
            ]
        )
        canvas.fill(flank, dark, "car", kind)
        if kind == "sedan":
            cabin = np.array([[x - half * 0.85, body, z + 0.6], [x - half * 0.65, top, z + 1.2],
                              [x + half * 0.65, top, z + 1.2], [x + half * 0.85, body, z + 0.6]])  # fmt: skip
            canvas.fill(cabin, (45, 55, 65), "car", kind)
            ridge = np.array([[x - half * 0.65, top, z + 1.2], [x + half * 0.65, top, z + 1.2],
                              [x + half * 0.65, top - 0.12, z + 1.2], [x - half * 0.65, top - 0.12, z + 1.2]])  # fmt: skip
            canvas.shade(ridge, paint)
        canvas.fill(upright(x, z, half, 0.3, body), paint, "car", kind)
        if kind == "bus":
            canvas.shade(upright(x, z, half * 0.85, tall * 0.5, tall * 0.85), (60, 75, 90))
            for start in np.arange(z + 0.8, far - 1.2, 1.6):
                pane = [[x + inner, tall * 0.5, start], [x + inner, tall * 0.85, start],
                        [x + inner, tall * 0.85, start + 1.2], [x + inner, tall * 0.5, start + 1.2]]  # fmt: skip
                canvas.shade(np.array(pane), (60, 75, 90))
        if kind == "truck":
            canvas.shade(upright(x, z, half * 0.92, 0.9, tall * 0.94), (200, 200, 196))
        lamp = (230, 40, 40) if x > 0 else (250, 245, 210)
        for edge in (-half, half):
            canvas.shade(upright(x + edge * 0.78, z, 0.13, 0.62, 0.82), lamp)

    return draw


_SMALL = ("pole", "sign", "person")
_DRAW: dict[str, Callable[..., None]] = {
    "house": _house,
    "tower": _tower,
    "tree": _tree,
    "pole": _pole,
    "sign": _sign,
    "person": _person,
    "sedan": _vehicle("sedan", 1.8, 1.5, 4.2),
    "truck": _vehicle("truck", 2.4, 3.1, 7.0),
    "bus": _vehicle("bus", 2.5, 3.2, 11.0),
}
