"""The checks for parts: they pass ours and the example's, and refuse each fault."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segtune.errors import ConfigError
from segtune.models.losses.dice import soft_dice
from segtune.models.networks.swift import build_swift
from segtune.plugins.loading import load_plugins
from segtune.plugins.registry import find, parts
from segtune.testing import check_architecture, check_augmentation, check_loss, check_metric


def test_the_example_and_our_own_parts_pass(mylab):
    load_plugins([str(mylab)])
    check_architecture(find("architecture", "TinyNet").load(), width=8)
    check_architecture(build_swift, width=16, depth=1, stem="single")
    check_loss(find("loss", "tversky").load(), alpha=0.7)
    check_loss(soft_dice)
    check_augmentation(find("augmentation", "fog").load(), density=0.9)
    check_metric(find("metric", "worst_iou").load())
    for part in parts("metric").values():
        if part.plugin is None and part.facts.get("each_epoch"):
            check_metric(part.load())


class Net(nn.Module):
    """One convolution with a fault."""

    stride = 4

    def __init__(self, num_classes, fault):
        super().__init__()
        self.fault, self.unused = fault, nn.Linear(2, 2)
        self.conv = nn.Conv2d(3, num_classes, 3, padding=1)
        self.unused.requires_grad_(fault == "unused")
        self.calls = 0

    def forward(self, x):
        x = x.detach() * 1.0 if self.fault == "unused" else x
        if self.fault == "batch":
            x = x - x.mean(0)
        logits = self.conv(x)
        if self.fault == "dead":
            logits = logits * 0.0
        if self.fault == "export" and not self.training:
            logits = torch.from_numpy(logits.float().numpy())
        return logits


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unused", "no gradient reaches unused.weight|module.unused"),
        ("batch", "depend on the other images"),
        ("dead", "lower the cross-entropy"),
        ("export", "torch.export cannot export it"),
    ],
)
def test_an_architecture_with_a_fault_is_refused(fault, message):
    with pytest.raises(AssertionError, match=message):
        check_architecture(Net, fault=fault)


def test_an_architecture_of_the_wrong_shape_is_refused():
    with pytest.raises(ConfigError, match="expected are logits"):
        check_architecture(lambda num_classes: nn.Conv2d(3, 9, 1))


def no_ignore(logits, mask, ignore_index):
    return F.cross_entropy(logits, mask.clamp(max=3))


def mean_of_none(logits, mask, ignore_index):
    return F.cross_entropy(logits, mask, ignore_index=ignore_index)


def upside_down(logits, mask, ignore_index):
    return -F.cross_entropy(logits, mask, ignore_index=ignore_index, reduction="sum")


def per_pixel(logits, mask, ignore_index):
    return F.cross_entropy(logits, mask, ignore_index=ignore_index, reduction="none")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (no_ignore, "ignored pixels change the loss"),
        (mean_of_none, "the loss is nan"),
        (upside_down, "right logits have the loss"),
        (per_pixel, "no tensor of one number"),
    ],
)
def test_a_loss_with_a_fault_is_refused(loss, message):
    with pytest.raises(AssertionError, match=message):
        check_loss(loss)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image, mask, rng: (image[:9], mask), "the image becomes"),
        (lambda image, mask, rng: (image, mask + 1), "the mask holds new ids"),
        (lambda image, mask, rng: image, "does not return"),
        (
            lambda image, mask, rng: (
                image + torch.randint(0, 99, (1,)).numpy().astype("u1"),
                mask,
            ),
            "the same generator gives two results",
        ),
    ],
)
def test_an_augmentation_with_a_fault_is_refused(change, message):
    with pytest.raises(AssertionError, match=message):
        check_augmentation(change)


def test_a_metric_with_a_fault_is_refused():
    with pytest.raises(AssertionError, match="right predictions have"):
        check_metric(lambda counts: 1 - counts.scores.miou)
    with pytest.raises(AssertionError, match="it returns nan"):
        check_metric(lambda counts: float("nan"))
