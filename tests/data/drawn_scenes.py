"""A clean dataset of drawn scenes, and functions that change its files."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIZE = (60, 80)
CLASSES = [
    {"name": "ground", "color": [0, 0, 0]},
    {"name": "car", "color": [200, 30, 30]},
    {"name": "tree", "color": [20, 180, 60]},
]


def scene(seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A textured image and its mask of overlapping blobs; no two seeds look alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    image = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    mask = np.zeros(SIZE, np.uint8)
    for value in range(1, classes):
        center = (int(rng.integers(15, 65)), int(rng.integers(15, 45)))
        cv2.ellipse(mask, center, (16, 9), float(rng.integers(180)), 0, 360, value, -1)
    return image, mask


def draw(root: Path, train: int, val: int) -> Path:
    """Write train and val pairs, numbered from 000 over both."""
    for number in range(train + val):
        split = "train" if number < train else "val"
        for kind, pixels in zip(("images", "masks"), scene(number), strict=True):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / split / f"{number:03d}.png")
    return root


def mask_path(root: Path, number: int = 5) -> Path:
    return root / "masks" / "train" / f"{number:03d}.png"


def image_path(root: Path, number: int = 5) -> Path:
    return root / "images" / "train" / f"{number:03d}.png"


def last_val_image(root: Path, place: int = 1) -> Path:
    """The val image at a place from the end."""
    return sorted((root / "images" / "val").iterdir())[-place]


def read_pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def colored(mask: np.ndarray) -> np.ndarray:
    return np.array([c["color"] for c in CLASSES], np.uint8)[mask]


def change_mask(root: Path, number: int, change: Callable[[np.ndarray], np.ndarray]) -> str:
    """Replace the pixels of one mask."""
    path = mask_path(root, number)
    Image.fromarray(change(read_pixels(path))).save(path)
    return f"masks/train/{number:03d}.png"


def change_all_masks(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> str:
    """Replace the pixels of every mask; return one of them."""
    for path in (root / "masks").rglob("*.png"):
        Image.fromarray(change(read_pixels(path))).save(path)
    return "masks/train/005.png"


def change_all_images(root: Path, write: Callable[[np.ndarray, Path], None]) -> str:
    """Replace every image by a TIFF; return one of them."""
    for path in sorted((root / "images").rglob("*.png")):
        write(read_pixels(path), path.with_suffix(".tif"))
        path.unlink()
    return "images/train/005.tif"
