"""Pretrained weights help: few real images teach a pretrained encoder more than a random one."""

from pathlib import Path

import numpy as np
import pytest

import segtune
from segtune.data.reading.images import read_image
from tests.conftest import write_pairs

skimage = pytest.importorskip("skimage", reason="its photos: pip install 'segtune[uses]'")

TEXTURES = ("brick", "grass", "gravel", "chelsea")
SIDE = 96
RECIPE = [
    *("template=lite", "trainer=cpu", "trainer.threads=1", "augment=light"),
    *("trainer.precision=fp32", "trainer.channels_last=true", "trainer.class_offsets=false"),
    *(f"hp.image_size=[{SIDE}]", "hp.num_epochs=8", "hp.per_item_lrate=3e-4"),
    *("trainer.val_every=8", "tracking.overlays=0"),
]


def grey_halves(split: str) -> list[np.ndarray]:
    """The left half of each photo for train, the right one for val, without colours."""
    halves = []
    for name in TEXTURES:
        photo = read_image(Path(skimage.__file__).parent / "data" / f"{name}.png")
        grey = photo.mean(2).astype(np.uint8)
        middle = grey.shape[1] // 2
        halves.append(grey[:, :middle] if split == "train" else grey[:, middle:])
    return halves


def collages(split: str, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images of two textures, divided by a line; the mask says which texture each pixel shows."""
    rng, halves = np.random.default_rng([number, split == "val"]), grey_halves(split)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    pairs = []
    for _ in range(number):
        image = np.zeros((SIDE, SIDE), np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        angle, shift = rng.uniform(0, 2 * np.pi), rng.uniform(-SIDE / 4, SIDE / 4)
        is_first = np.cos(angle) * x + np.sin(angle) * y > shift
        for side, label in zip((is_first, ~is_first), rng.permutation(4), strict=False):
            half = halves[label]
            top, left = (rng.integers(length - SIDE + 1) for length in half.shape)
            window = half[top : top + SIDE, left : left + SIDE].astype(np.float64)
            # equal mean and contrast on average: the texture alone tells the classes apart
            window = (window - window.mean()) / window.std() * rng.uniform(25, 50) + 128
            image[side] = np.clip(window, 0, 255)[side]
            mask[side] = label
        pairs.append((np.repeat(image[..., None], 3, 2), mask))
    return pairs


def test_pretrained_weights_gain_ten_points_on_24_real_images(tmp_path):
    write_pairs(tmp_path / "data", "train", collages("train", 24))
    write_pairs(tmp_path / "data", "val", collages("val", 16))
    miou = {}
    for weights in ("bundled", "none"):
        result = segtune.train(
            *("dataset=folder", f"dataset.root='{tmp_path / 'data'}'"),
            f"dataset.classes=[{','.join(TEXTURES)}]",
            *RECIPE,
            f"hp.pretrained_weights={weights}",
            f"tracking.root='{tmp_path / 'runs'}'",
            say=lambda _: None,
        )
        miou[weights] = 100 * result.miou
    assert miou["bundled"] > miou["none"] + 10, miou
