"""Nearly equal images: told from images of one kind, and kept in one split."""

import io
from collections.abc import Iterator
from itertools import combinations

import cv2
import numpy as np
import pytest
from PIL import Image

from segtune.config.dataset_schema import SplitsConfig
from segtune.data.audit import write_fixes
from segtune.data.audit.second_look import SAME_DETAILS, correlation, details
from tests.data import seeded_faults as seeds
from tests.data.drawn_scenes import draw
from tests.data.test_audit import check, kinds, open_roads


@pytest.fixture
def root(tmp_path):
    return draw(tmp_path / "roads", 24, 8)


@pytest.mark.parametrize("seed", [seeds.nearly_same, seeds.mirrored])
@pytest.mark.parametrize("groups", [None, r"^\d\d"])
def test_nearly_equal_images_become_a_group_that_a_division_keeps_whole(
    root, tmp_path, seed, groups
):
    seed(root)
    result = check(root, groups=groups)
    assert result.fixes().keys() == {"groups"}
    ((image, other),) = result.fixes()["groups"]
    write_fixes(result, tmp_path / "fixes.yaml")
    for number in range(8):
        splits = SplitsConfig(val=0.4, seed=number)
        source = open_roads(root, groups=groups, fixes=str(tmp_path / "fixes.yaml"), splits=splits)
        split_of: dict[str, str] = {}
        for split in ("train", "val"):
            split_of |= dict.fromkeys(map(source.short, source.images(split)), split)
        assert split_of[image] == split_of[other]
        assert len(split_of) == 32  # no image is lost
        assert kinds(source) == []


def retina(seed: int) -> np.ndarray:
    """A round field with a bright disc, as in all photos of a series, and vessels of one eye."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:256, :256]
    radius = np.hypot(xs - 128, ys - 128)
    x, y = 173 + rng.normal(0, 4), 128 + rng.normal(0, 4)
    image = 150 - 60 * (radius / 122) ** 2 + 90 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 300)
    for _ in range(14):
        angles = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12, 120))
        points = np.cumsum(2 * np.stack([np.cos(angles), np.sin(angles)], 1), 0) + np.array([x, y])
        cv2.polylines(image, [points.astype(np.int32)], False, 70.0, int(rng.integers(1, 4)))
    image = np.where(radius < 122, image, 4) + rng.normal(0, 3, image.shape)
    return np.clip(image[..., None] * (1.0, 0.6, 0.3), 0, 255).astype(np.uint8)


def variants(image: np.ndarray) -> Iterator[np.ndarray]:
    """The same photo as other tools write it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=30)
    yield np.array(Image.open(buffer))
    yield cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, 5, image.shape)
    yield np.clip(image + noise, 0, 255).astype("uint8")
    yield np.clip(image * 1.2, 0, 255).astype("uint8")
    yield image[2:, 2:]


def test_only_the_same_photo_has_the_same_details():
    """Eyes of other patients share the field and the disc, not the vessels."""
    images = [retina(seed) for seed in range(4)]
    seen = [details(image) for image in images]
    for first, second in combinations(seen, 2):
        assert correlation(first, second) < SAME_DETAILS
    for image, own in zip(images, seen, strict=True):
        for variant in variants(image):
            assert correlation(own, details(variant)) > SAME_DETAILS
