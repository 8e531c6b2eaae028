"""The checks for parts: they pass ours and the example's, and refuse each fault."""

import json

import numpy as np
import optuna
import pytest
import torch
import torch.nn.functional as F
from optuna.trial import TrialState
from PIL import Image
from torch import nn

from segtune.data.formats.areas import Annotations, Area, LabelledImage
from segtune.data.source.files import read_json
from segtune.errors import ConfigError
from segtune.models.losses.dice import soft_dice
from segtune.models.networks.swift import build_swift
from segtune.plugins.loading import load_plugins
from segtune.plugins.registry import find, parts
from segtune.testing import (
    check_architecture,
    check_augmentation,
    check_loss,
    check_metric,
    check_reader,
    check_sampler,
)
from tests.data.annotation_sets import EXACT


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


@pytest.mark.parametrize("name", ["random", "tpe", "qmc"])
def test_our_samplers_pass(name):
    part = find("sampler", name).load()
    check_sampler(lambda seed: part(seed=seed))


class Faulty(optuna.samplers.RandomSampler):
    """A sampler with a fault."""

    def __init__(self, seed, fault):
        super().__init__(seed={"unseeded": None, "deaf": 0}.get(fault, seed))
        self.fault = fault

    def sample_independent(self, study, trial, name, distribution):
        if self.fault == "range" and name == "linear":
            return 7.0
        if self.fault == "failed":
            assert all(t.value is not None for t in study.get_trials(states=[TrialState.FAIL]))
        return super().sample_independent(study, trial, name, distribution)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unseeded", "the same seeds give two proposals for trial 0"),
        ("deaf", "two seeds give the same proposals"),
        ("range", "it proposes linear=7.0"),
        ("failed", "assert"),
    ],
)
def test_a_sampler_with_a_fault_is_refused(fault, message):
    with pytest.raises(AssertionError, match=message):
        check_sampler(Faulty, fault=fault)
    with pytest.raises(AssertionError, match="returns a int"):
        check_sampler(lambda seed: 3)


class Squares:
    """squares.json: image -> side of a square, and faults."""

    def __init__(self, fault=""):
        self.fault, self.calls = fault, 0

    def find_files(self, folder):
        return self.fault == "greedy" or (folder / "squares.json").is_file()

    def read(self, folder, config):
        path = folder / "squares.json"
        rows = json.loads(path.read_bytes()) if self.fault == "json" else read_json(path)
        self.calls += 1
        if self.fault == "writes":
            (folder / "cache").write_text("x")
        images = []
        for name, side in rows.items():
            side += self.calls if self.fault == "moody" else 0
            concept = "circle" if self.fault == "class" else "square"
            area = Area(concept, lambda *size, side=side: self.draw(size, side))
            file = folder / (f"no_{name}" if self.fault == "absent" else name)
            images.append(LabelledImage("a" if self.fault == "names" else name, file, areas=[area]))
        return Annotations([{"name": "background"}, {"name": "square"}], images)

    def draw(self, size, side):
        bits = np.zeros(size[::-1] if self.fault == "turned" else size, bool)
        bits[:side, :side] = True
        return bits


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("", None),
        ("greedy", "finds annotations in an empty folder"),
        ("json", "'squares.json', empty, gives JSONDecodeError"),
        ("writes", "it changes the files"),
        ("moody", "has other labels when the folder is read again"),
        ("class", "has an area of 'circle', and the classes are"),
        ("absent", "no_x.png' does not exist"),
        ("names", "two images have the name 'a'"),
        ("turned", r"is bool of \(30, 20\); expected is bool of \(20, 30\)"),
    ],
)
def test_a_reader_with_a_fault_is_refused(fault, message, tmp_path):
    for name in ("x.png", "y.png"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "squares.json").write_text(json.dumps({"x.png": 3, "y.png": 5}))
    if message is None:
        check_reader(Squares(), tmp_path)
        return
    with pytest.raises(AssertionError, match=message):
        check_reader(Squares(fault), tmp_path)


@pytest.mark.parametrize("name", EXACT)
def test_our_readers_pass(name, tmp_path):
    EXACT[name](tmp_path / "set")
    check_reader(find("reader", name).load(), tmp_path / "set")


def test_a_metric_with_a_fault_is_refused():
    with pytest.raises(AssertionError, match="right predictions have"):
        check_metric(lambda counts: 1 - counts.scores.miou)
    with pytest.raises(AssertionError, match="it returns nan"):
        check_metric(lambda counts: float("nan"))
