"""Tiles cover each pixel once and give the result of the whole image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import segtune
from segtune.classes import ClassTable
from segtune.errors import ConfigError
from segtune.inference.segmenter import Segmenter
from segtune.inference.tiling import TileGrid, Tiling, blended, windows_of
from segtune.models.preprocessing import Preprocessing
from segtune.models.segmentation_model import SegmentationModel

RNG = np.random.default_rng(0)
CLASSES = ClassTable.parse(["a", "b", "c"])


class Equivariant(nn.Module):
    """Stride 4, a receptive field of 15 pixels, and nothing that sees the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.GELU(), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x):
        return nn.functional.interpolate(self.layers(x), scale_factor=4, mode="nearest")


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    model = SegmentationModel(Equivariant(), Preprocessing(multiple=4))
    return Segmenter(model, CLASSES, [64], {})


def logits_of(segmenter: Segmenter, image: np.ndarray, tiling: Tiling) -> torch.Tensor:
    height, width = image.shape[:2]
    total = torch.full((3, height, width), torch.nan)
    for part in segmenter.parts(windows_of(image), (height, width), tiling):
        left, right = part.columns
        area = total[:, part.top : part.top + part.logits.shape[1], left:right]
        assert area.isnan().all(), "covered twice"
        area[:] = part.logits[:, :, left - part.left : right - part.left]
    assert not total.isnan().any()
    return total


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([32, 64, 100]),
    st.sampled_from([0.25, 0.4, 0.5, 0.75]),
)
def test_tiled_equals_whole_to_a_ten_thousandth(segmenter, height, width, tile, overlap):
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    with torch.inference_mode():
        whole = segmenter.model(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(
        logits_of(segmenter, image, Tiling(max(tile, 64), overlap)), whole, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("buffer", [1, 200_000, 10**9])
def test_the_size_of_the_buffer_does_not_change_the_result(segmenter, monkeypatch, buffer):
    image = RNG.integers(0, 256, (200, 333, 3), dtype=np.uint8)
    expected = logits_of(segmenter, image, Tiling(64, 0.5))
    monkeypatch.setattr("segtune.inference.tiling._BUFFER", buffer)
    torch.testing.assert_close(
        logits_of(segmenter, image, Tiling(64, 0.5)), expected, atol=1e-5, rtol=0
    )


def test_weights_of_a_pixel_add_up_to_one():
    sizes: list[tuple[int, int]] = []

    def ones(window: np.ndarray) -> torch.Tensor:
        sizes.append(window.shape[:2])
        return torch.ones(2, *window.shape[:2])

    image = np.zeros((150, 210, 3), np.uint8)
    for part in blended(windows_of(image), TileGrid((150, 210), Tiling(64, 0.3), 32, 2), ones):
        torch.testing.assert_close(part.logits, torch.ones_like(part.logits))
    assert max(sizes) == (64, 64)


def test_flipping_makes_the_result_of_a_mirrored_image_the_mirrored_result(tiny_run):
    segmenter = segtune.load(tiny_run.segmenter)
    image = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for tta in ("flip", "scales"):
        found = segmenter.segment(image, tta=tta)
        mirrored = segmenter.segment(image[:, ::-1].copy(), tta=tta)
        np.testing.assert_allclose(mirrored.confidence[:, ::-1], found.confidence, atol=1e-4)
        assert 0 < found.confidence.min() and found.confidence.max() <= 1 + 1e-6


def test_averaging_equals_the_mean_of_softmaxes_by_hand(tiny_run):
    segmenter = segtune.load(tiny_run.segmenter)
    image = torch.from_numpy(RNG.integers(0, 256, (1, 3, 48, 64), dtype=np.uint8))
    with torch.inference_mode():
        plain = segmenter.model(image).softmax(1)
        mirrored = segmenter.model(image.flip(-1)).flip(-1).softmax(1)
    found = segmenter.logits(image, (48, 64), "flip").softmax(1)
    torch.testing.assert_close(found, (plain + mirrored) / 2, atol=1e-5, rtol=0)


def test_unknown_names_and_ranges_are_refused(segmenter):
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ConfigError, match="did you mean 'flip'"):
        segmenter.segment(image, tta="flipp")
    with pytest.raises(ConfigError, match=r"0\.\.0\.75"):
        Tiling(64, 0.9)
    with pytest.raises(ConfigError, match="at least 32"):
        Tiling(8)
