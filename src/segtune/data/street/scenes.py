"""The built-in street scenes: drawn from a small 3-D model, so that every pixel's class is exact.

A scene is a straight street in perspective with buildings, trees, vehicles, people, poles and
signs. Light, weather, camera and occlusion vary with the seed. The camera can drive through it,
which gives clips. Image and mask come from the same polygons; then only the image gets texture,
fog, rain and noise.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.data.street.canvas import CLASS_IDS, Canvas, Frame
from segtune.data.street.shapes import Points, flat, noise, vary
from segtune.data.street.things import DRAW, NEAR, THIN

_FAR = 90.0  # metres from the camera
_THIN_FAR = 32.0  # beyond it thin things are specks, which no annotator labels
_SKIES = {
    "day": ((70, 130, 220), (190, 215, 240)),
    "dusk": ((60, 60, 120), (240, 150, 90)),
    "night": ((8, 10, 28), (40, 42, 66)),
    "overcast": ((140, 146, 152), (205, 208, 210)),
}
"""Colours of the sky at the top of the image and at the horizon."""

_LIGHTS = {
    "day": (1.05, (1.02, 1.0, 0.96)),
    "dusk": (0.75, (1.12, 0.95, 0.85)),
    "night": (0.38, (0.9, 0.95, 1.2)),
    "overcast": (0.88, (0.98, 1.0, 1.03)),
}
"""Brightness, and a factor on each RGB channel."""

_ROADSIDE = (("tree", 14, 0.3, 4.0), ("pole", 18, -0.5, 0.2), ("sign", 24, -0.7, 0.1))
"""Kind, mean gap in metres, and range of the distance to the outer edge of the pavement."""


@dataclass(frozen=True)
class Thing:
    """Something that stands on the ground.

    Attributes:
        x: to the right of the street's middle, in metres.
        z: ahead of the camera, in metres.
        speed: along z, in m/s.
    """

    kind: str
    x: float
    z: float
    seed: int
    speed: float = 0.0


class Scene:
    """A street that a seed determines; `render` draws it as the camera sees it."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rng_seed = seed
        self.camera_height = rng.uniform(1.3, 2.4)
        self.horizon = rng.uniform(0.36, 0.5)
        self.zoom = rng.uniform(0.8, 1.15)
        self.shift = rng.uniform(-1.5, 1.5)
        self.road = rng.uniform(3.2, 5.5)  # half of its width, in metres
        self.pavement = rng.uniform(1.5, 3.0)
        self.surface = "cobblestone" if rng.random() < 0.3 else "asphalt"
        self.light = rng.choice(["day", "dusk", "night", "overcast"], p=[0.45, 0.2, 0.12, 0.23])
        self.fog = rng.choice([0.0, rng.uniform(0.004, 0.02)], p=[0.65, 0.35])
        self.rain = bool(rng.random() < 0.2)
        self.speed = rng.uniform(3.0, 9.0)
        self.urban = rng.random()
        self.things = sorted(_populate(self, rng), key=lambda t: -t.z)

    def render(self, height: int, width: int, seconds: float = 0.0) -> Frame:
        """Draw the scene after some seconds of driving; height and width are in pixels."""
        canvas = Canvas(
            height, width, self.zoom * width * 0.9, self.horizon * height, self.camera_height
        )
        rng = np.random.default_rng([self.rng_seed, 1])
        self._sky(canvas, rng)
        self._ground(canvas, rng)
        travelled = self.speed * seconds
        placed = [(t, t.z - travelled + t.speed * seconds) for t in self.things]
        for thing, z in sorted(placed, key=lambda p: -p[1]):
            if NEAR - 9 < z < (_THIN_FAR if thing.kind in THIN else _FAR):
                draw = DRAW[thing.kind]
                draw(canvas, thing.x - self.shift, z, np.random.default_rng(thing.seed))
        self._weather(canvas, np.random.default_rng([self.rng_seed, 2, int(seconds * 1000)]))
        return Frame(canvas.image, canvas.mask, canvas.finer)

    def _sky(self, canvas: Canvas, rng: np.random.Generator) -> None:
        top, low = _SKIES[self.light]
        ramp = np.linspace(0, 1, canvas.height)[:, None, None] / max(self.horizon, 0.1)
        sky = np.array(top) * (1 - ramp.clip(0, 1)) + np.array(low) * ramp.clip(0, 1)
        clouds = noise(rng, canvas.height, canvas.width, 5)[..., None] * rng.uniform(0, 55)
        canvas.image[:] = (sky + clouds).clip(0, 255).astype(np.uint8)

    def _ground(self, canvas: Canvas, rng: np.random.Generator) -> None:
        def strip(left: float, right: float) -> Points:
            left, right = left - self.shift, right - self.shift
            return flat(left, right, 0.6, 600)

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
                marking = flat(-0.08 - self.shift, 0.08 - self.shift, z, z + 2.5)
                canvas.shade(marking, (225, 225, 215))
        grain = noise(rng, canvas.height, canvas.width, 2)[..., None] * 22
        blended = canvas.image[ground].astype(np.float32) + grain[ground]
        canvas.image[ground] = blended.clip(0, 255).astype(np.uint8)

    def _cobbles(self, canvas: Canvas, distance: NDArray[np.float32]) -> None:
        pixels = (np.arange(canvas.width) - canvas.width / 2)[None, :]
        columns = pixels * distance[:, None] / canvas.focal
        row = np.floor(distance[:, None] / 0.45)
        joint = ((distance[:, None] % 0.45) < 0.12) | (((columns + 0.2 * row) % 0.4) < 0.1)
        stones = (canvas.mask == CLASS_IDS["road"]) & joint & (distance[:, None] < 22)
        canvas.image[stones] = (canvas.image[stones] * 0.62).astype(np.uint8)

    def _weather(self, canvas: Canvas, rng: np.random.Generator) -> None:
        image = canvas.image.astype(np.float32)
        if self.fog:
            clear = np.exp(-self.fog * canvas.depth)[..., None]
            image = image * clear + (1 - clear) * (215 if self.light != "night" else 70)
        gain, tint = _LIGHTS[self.light]
        image *= gain * np.array(tint, np.float32)
        if self.rain:
            for _ in range(canvas.width // 3):
                x, y = rng.integers(canvas.width), rng.integers(canvas.height)
                length = int(rng.integers(4, 10))
                cv2.line(image, (int(x), int(y)), (int(x) + 1, int(y) + length), (190, 190, 200), 1)
        image += rng.normal(0, rng.uniform(2, 7), image.shape[:2])[..., None]
        blurred = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.8))
        canvas.image = blurred.clip(0, 255).astype(np.uint8)


def _populate(scene: Scene, rng: np.random.Generator) -> list[Thing]:
    """Draw the things on both sides of the street."""
    things: list[Thing] = []
    for side in (-1, 1):
        things += _buildings(scene, side, rng)
        for kind, gap, low, high in _ROADSIDE:
            z = rng.uniform(4, 4 + gap)
            while z < 130:
                x = side * (scene.road + scene.pavement + rng.uniform(low, high))
                things.append(_thing(kind, x, z, rng))
                z += rng.uniform(0.5, 1.6) * gap
        things += _people(scene, side, rng)
        things += _vehicles(scene, side, rng)
    return things


def _thing(kind: str, x: float, z: float, rng: np.random.Generator, speed: float = 0.0) -> Thing:
    return Thing(kind, x, z, int(rng.integers(2**31)), speed)


def _buildings(scene: Scene, side: int, rng: np.random.Generator) -> list[Thing]:
    things = []
    z = rng.uniform(0, 12)
    while z < 160:
        length = rng.uniform(8, 18)
        if rng.random() < 0.35 + 0.5 * scene.urban:
            kind = "tower" if rng.random() < 0.15 + 0.4 * scene.urban else "house"
            x = side * (scene.road + scene.pavement + rng.uniform(0.5, 5))
            things.append(_thing(kind, x, z, rng))
        z += length + rng.uniform(0, 5)
    return things


def _people(scene: Scene, side: int, rng: np.random.Generator) -> list[Thing]:
    """People, mostly on the pavement, some on the road."""
    things = []
    z = rng.uniform(4, 14)
    while z < 110:
        if rng.random() < 0.85:
            x = rng.uniform(0.1, scene.pavement - 0.2) + scene.road
        else:
            x = rng.uniform(0, scene.road)
        speed = rng.uniform(-1.3, 1.3)
        things.append(_thing("person", side * x, z, rng, speed))
        z += rng.uniform(3, 16)
    return things


def _vehicles(scene: Scene, side: int, rng: np.random.Generator) -> list[Thing]:
    """Vehicles: parked, driving ahead on the right side, or coming on the left side."""
    things = []
    z = rng.uniform(5, 16)
    while z < 120:
        is_parked = rng.random() < 0.35
        lane = scene.road - 1.1 if is_parked else scene.road * rng.uniform(0.42, 0.55)
        kind = str(rng.choice(["sedan", "truck", "bus"], p=[0.66, 0.18, 0.16]))
        speed = 0.0
        if not is_parked:
            speed = rng.uniform(2, 9) if side > 0 else rng.uniform(-9, -4)
        things.append(_thing(kind, side * lane, z, rng, speed))
        z += rng.uniform(9, 26)
    return things
