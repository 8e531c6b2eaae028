"""Gradient accumulation: the updates, the schedule and the gradient of the whole batch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from segtune.config.compose import compose
from segtune.config.schema import LossConfig
from segtune.models.build import build
from segtune.models.labeler import build_labeler
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.tasks.region_labeling import RegionLabeling
from segtune.tasks.segmentation import Segmentation
from segtune.training.accumulation import loss_in_parts
from segtune.training.fit import fit
from segtune.training.lightning_module import _EpochLosses
from tests.conftest import write_pairs

SWIFT = {"architecture": "Swift", "encoder": "x", "width": 16, "dropout": 0.0}
LOSSES = {
    "ce": {"terms": {"cross_entropy": 1.0}},
    "weighted": {
        "terms": {"cross_entropy": 1.0},
        "class_weights": "inverse",
        "label_smoothing": 0.1,
    },
    "boundary": {"terms": {"cross_entropy": 1.0}, "boundary": 2.0, "class_weights": "enet"},
    "stride": {"terms": {"cross_entropy": 1.0}, "stride": 4},
    "focal": {"terms": {"focal": 1.0, "cross_entropy": 0.5}},
    "dice": {"terms": {"dice": 1.0, "cross_entropy": 0.5}},
    "lovasz": {"terms": {"lovasz": 1.0, "cross_entropy": 0.5}},
    "hardest": {"terms": {"cross_entropy": 1.0}, "ohem_ratio": 0.3},
}


def uneven_batch(number: int = 5, classes: int = 4) -> dict[str, torch.Tensor]:
    """Images with different losses: two are nearly ignored, the last shows a class of its own."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.randint(0, classes - 1, (number, 24, 40), generator=generator).to(torch.uint8)
    mask[:2, 2:] = 255
    mask[-1, :8] = classes - 1
    image = torch.randint(0, 256, (number, 3, 24, 40), dtype=torch.uint8, generator=generator)
    return {"image": image, "mask": mask}


def gradient(
    task, model: nn.Module, loss: nn.Module, batch: dict[str, torch.Tensor], size: int
) -> torch.Tensor:
    torch.manual_seed(5)
    model.zero_grad()
    last_part, value = loss_in_parts(task, model, loss, batch, size)
    last_part.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat([*gradients, value[None]])


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_parts_of_a_batch_give_the_gradient_of_the_whole(name, size):
    torch.manual_seed(0)
    model = build(SWIFT, 4).eval()  # fixed statistics: batch norms see a part at a time
    loss = SegmentationLoss(LossConfig.model_validate(LOSSES[name]), [0.4, 0.3, 0.2, 0.1])
    whole, parts = (gradient(Segmentation(), model, loss, uneven_batch(), n) for n in (5, size))
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=2e-6)


def test_dropout_of_both_passes_agrees_and_running_statistics_move_once():
    torch.manual_seed(0)
    model = build({**SWIFT, "dropout": 0.5}, 4).train()
    loss = SegmentationLoss(LossConfig.model_validate(LOSSES["dice"]), [0.25] * 4)
    first, again = [], []
    for outputs in (first, again):
        model.net.head.register_forward_hook(
            lambda _, __, out, outputs=outputs: outputs.append(out.detach().clone())
        )
        gradient(Segmentation(), model, loss, uneven_batch(4), 2)
    assert len(again) == 4 and torch.equal(again[0], again[2]) and torch.equal(again[1], again[3])
    assert not torch.equal(again[0], again[1])
    assert {int(b) for n, b in model.named_buffers() if n.endswith("num_batches_tracked")} == {4}


def test_parts_of_a_batch_of_queries_give_the_gradient_of_the_whole(monkeypatch):
    # the same points in every loss
    monkeypatch.setattr(torch, "rand", lambda *size, device=None: torch.full(size, 0.37))
    torch.manual_seed(0)
    eomt = {"architecture": "Eomt", "encoder": "test_vit", "num_queries": 6, "num_blocks": 2}
    model = build(eomt, 4).eval()
    loss = SegmentationLoss(
        LossConfig.model_validate({"terms": {"masks": 1.0}, "points": 64}), [0.25] * 4
    )
    whole, parts = (gradient(Segmentation(), model, loss, uneven_batch(), n) for n in (5, 2))
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-5)


def test_parts_of_a_batch_of_regions_give_the_gradient_of_the_whole():
    torch.manual_seed(0)
    task = RegionLabeling("car", 1)
    model = build_labeler(
        {"architecture": "MaskPool", "encoder": "resnet10t", "width": 16}, 4
    ).eval()
    loss = SegmentationLoss(LossConfig.model_validate(LOSSES["weighted"]), [0.25] * 4)
    batch = uneven_batch()
    coarse = batch["mask"][:, None, ::8, ::8]
    batch["mask"] = F.interpolate(coarse, scale_factor=8, mode="nearest")[:, 0]
    batch["mask"][1] = 255  # an image without a region
    batch = task.collate(batch)
    whole, parts = (gradient(task, model, loss, batch, n) for n in (5, 2))
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=2e-6)


def fixed_statistics(self: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(
        x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
    )


@pytest.mark.parametrize(("loss", "accumulate"), [("ce", (2, 4)), ("ce_dice", (2,))])
def test_accumulating_trains_the_weights_that_whole_batches_train(
    loss, accumulate, tmp_path, monkeypatch
):
    """Ten images in batches of four, two epochs: four updates, whatever the parts."""
    monkeypatch.setattr(nn.BatchNorm2d, "forward", fixed_statistics)
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(10):
        mask = rng.integers(0, 3, (8, 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        if number % 3 == 0:
            mask[4:] = 255
        pairs.append((rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), mask))
    write_pairs(tmp_path / "data", "train", pairs)
    write_pairs(tmp_path / "data", "val", pairs[1:3])
    words = ["dataset=folder", f"dataset.root={tmp_path / 'data'}", "dataset.classes=[a,b,c]"]
    words += ["template=swift", "template.model.dropout=0.0", "augment=none", f"loss={loss}"]
    words += ["trainer=cpu", "trainer.precision=fp32", "trainer.channels_last=false"]
    words += ["trainer.class_offsets=false", "trainer.gradient_clip=0.5"]
    words += ["scheduler=cosine", "optimizer=sgd", "hp.per_item_lrate=0.02", "hp.num_epochs=2"]
    words += ["hp.width=16", "hp.image_size=[64]", "hp.batch_size=4"]
    words += [f"tracking.root={tmp_path / 'store'}"]
    rates: list[list[float]] = []
    monkeypatch.setattr("segtune.training.lightning_module._EpochLosses.add", recording(rates))
    weights = []
    for parts in (1, *accumulate):
        rates.append([])
        result = fit(compose([*words, f"trainer.accumulate={parts}"]).config)
        weights.append(load_file(result.segmenter / "model.safetensors"))
    assert len(rates[0]) == 4 and all(other == rates[0] for other in rates)
    for other in weights[1:]:
        for name, tensor in weights[0].items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-4)


def recording(rates: list[list[float]]):
    add = _EpochLosses.add

    def added(self: _EpochLosses, loss: torch.Tensor, step: int, lr: float) -> None:
        rates[-1].append(lr)
        add(self, loss, step, lr)

    return added
