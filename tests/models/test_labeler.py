"""Mask pooling: a region's features are the mean over its own pixels, whatever the batch holds."""

import numpy as np
import pytest
import torch
from torch import nn

from segtune.errors import ConfigError
from segtune.models.labeler import RegionModel, _pooled, build_labeler, region_form
from segtune.models.preprocessing import Preprocessing

OPTIONS = {"architecture": "MaskPool", "encoder": "resnet10t", "width": 16}


def numbered(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (32, 48)) -> torch.Tensor:
    numbers = torch.zeros(size, dtype=torch.int32)
    for n, (left, top, width, height) in enumerate(boxes, 1):
        numbers[top : top + height, left : left + width] = n
    return numbers


def test_features_are_averaged_over_the_pixels_of_each_region():
    features = torch.randn(5, 32, 48, generator=torch.Generator().manual_seed(0))
    regions = numbered((3, 4, 10, 7), (20, 10, 25, 20))
    rows, _ = _pooled(features, regions, (32.0, 48.0))
    for n in (1, 2):
        expected = features[:, regions == n].mean(1)
        torch.testing.assert_close(rows[n - 1, :5], expected)
    upper_third = features[:, 4:6, 3:13]  # of the rows 4 to 10
    torch.testing.assert_close(rows[0, 5:10], upper_third.mean((1, 2)))
    torch.testing.assert_close(rows[0, 20:], features.mean((1, 2)))


def test_a_coarse_cell_counts_by_the_pixels_that_it_shares_with_the_region():
    features = torch.arange(4.0).view(1, 1, 4)  # one row of four cells, each 4 x 4 pixels of 4 x 16
    regions = numbered((2, 0, 8, 4), size=(4, 16))  # half of cell 0, all of cell 1, half of cell 2
    row, _ = _pooled(features, regions, (1.0, 4.0))
    assert row[0, 0] == pytest.approx((0 * 2 + 1 * 4 + 2 * 2) / 8)


def test_form_holds_the_position_and_shape_of_a_region():
    y, x = torch.nonzero(numbered((12, 8, 24, 12)), as_tuple=True)
    form = region_form(torch.zeros(len(y), dtype=torch.long), y, x, 1, (32, 48))[0]
    centre, box = [24 / 48, 14 / 32], [12 / 48, 8 / 32, 36 / 48, 20 / 32]
    expected = [*centre, *box, 1.0, np.log(24 * 12 / (32 * 48)), np.log(0.5)]
    torch.testing.assert_close(form, torch.tensor(expected, dtype=form.dtype))


def test_a_region_gets_the_same_row_alone_and_among_others():
    torch.manual_seed(0)
    model = build_labeler(OPTIONS, 3).eval()
    images = torch.randint(0, 256, (2, 3, 50, 70), dtype=torch.uint8)
    first = numbered((5, 5, 20, 20), (40, 8, 9, 9), size=(50, 70))
    second = numbered((0, 0, 70, 50), size=(50, 70))
    with torch.inference_mode():
        together = model(images, torch.stack([first, torch.where(second > 0, second + 2, 0)]))
        alone = [model(images[:1], (first == 2).int()[None]), model(images[1:], second[None])]
    assert together.shape == (3, 3)
    torch.testing.assert_close(together[1:], torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_images_alone_are_regions_and_an_image_without_any_gives_no_row():
    model = build_labeler(OPTIONS, 3).train()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert model(images).shape == (2, 3)
    none = model(images, torch.zeros(2, 64, 64, dtype=torch.int32))
    assert none.shape == (0, 3)
    (none.sum() * 0.0).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_levels_finer_than_stride_4_are_not_used():
    class Levels(nn.Module):
        class feature_info:  # timm's name
            reduction = staticmethod(lambda: [2, 4, 8])
            channels = staticmethod(lambda: [3, 5, 7])

    assert RegionModel(Levels(), 4, 2, Preprocessing()).levels == [1, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "MaskPol"}, "labelers are MaskPool"),
        ({"encoder": "resnet19"}, "did you mean 'resnet18'"),
    ],
)
def test_an_unknown_architecture_or_encoder_is_named(change, words):
    with pytest.raises(ConfigError, match=words):
        build_labeler(OPTIONS | change, 2)


def test_pretrained_weights_without_a_network_name_the_remedies(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    message = (
        "weights of 'resnet10t' cannot be loaded.*no route to host.*hp.pretrained_weights=none"
    )
    with pytest.raises(ConfigError, match=message):
        build_labeler(OPTIONS, 2, pretrained=True)
