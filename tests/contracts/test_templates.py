"""What every template keeps: sound ranges, a model that builds, steps and saves, four images that it can learn."""

import os
from pathlib import Path

import pytest
import torch

import segtune
from segtune.config import compose, load_template, members
from segtune.data.images import read_image, read_mask, resize_image, resize_mask
from segtune.data.street import Scene
from segtune.models.build import build
from segtune.models.losses import SegmentationLoss
from segtune.models.optim import build_optimizer
from tests.conftest import write_pairs

TEMPLATES = members("template")
SMALL = {"swift": ["hp.width=16"], "upernet": ["hp.encoder=resnet18"], "dpt": ["hp.encoder=vit_tiny_patch16_224"]}
REQUIRED = {"image_size", "batch_size", "num_epochs", "per_item_lrate", "pretrained_weights"}


def test_there_are_ten():
    named = set("segformer unet unetplusplus fpn deeplabv3plus upernet pspnet linknet dpt swift".split())
    assert named <= set(TEMPLATES)


def overrides(name: str) -> list[str]:
    encoder = [] if name in SMALL or name == "segformer" else ["hp.encoder=resnet18"]
    return [f"template={name}", "hp.pretrained_weights=none", *SMALL.get(name, encoder)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_it_declares_what_every_run_needs_with_sound_ranges(name):
    template = load_template(name)
    assert set(template.hyperparameters) >= REQUIRED
    for declared in template.hyperparameters.values():
        assert declared.check(declared.default) == declared.default
        if declared.name not in ("image_size",):
            searched = declared.search_range()
            for value in searched.get("choices", [searched.get("min"), searched.get("max")]):
                declared.check(value)


@pytest.mark.parametrize("name", TEMPLATES)
def test_it_builds_and_steps_once(name):
    config = compose(overrides(name)).config
    torch.manual_seed(0)
    model = build(config.template["model"], 5)
    loss = SegmentationLoss(config.loss, [0.2] * 5)
    optimizer = build_optimizer(config.optimizer, model, 1e-3)
    before = [p.detach().clone() for p in model.parameters()]
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    mask = torch.randint(0, 5, (2, 64, 96)).to(torch.uint8)
    stride = config.loss.stride
    value = loss(model(image, stride=stride), mask[:, stride // 2 :: stride, stride // 2 :: stride])
    value.backward()
    optimizer.step()
    pairs = zip(before, model.parameters(), strict=True)
    reached = [not torch.equal(a, b) for a, b in pairs if b.grad is not None and b.grad.abs().max() > 0]
    # residual branches that start at zero (timm's zero_init_last) pass no gradient in the first step
    assert torch.isfinite(value) and all(reached) and len(reached) > 0.5 * len(before)


def four_images(root, source):
    """Four windows of real photographs from CamVid at twice their size, else four street scenes, in both splits."""
    if source == "camvid":
        folder = Path(os.environ["SEGTUNE_DATA"]) / "camvid"
        names = sorted(p.name for p in (folder / "images" / "train").iterdir())[::90][:4]
        pairs = []
        for name in names:
            image = read_image(folder / "images" / "train" / name)[132:228, 176:304]
            mask = read_mask(folder / "masks" / "train" / name)[132:228, 176:304]
            pairs.append((resize_image(image, 192, 256), resize_mask(mask, 192, 256)))
    else:
        frames = [Scene(s).render(192, 256) for s in (1, 2, 4, 9)]
        pairs = [(f.image, f.mask) for f in frames]
    for split in ("train", "val"):
        write_pairs(root, split, pairs)


# what is thinner than the stride of a template's logits cannot be learned to the pixel: poles, signs, people, fences
THIN = {"camvid": [2, 6, 7, 9, 10, 11, 255], "street": [7, 8, 9, 255]}


def overfit(name, root, source):
    """Best mIoU over at most 300 steps on four images, without augmentation; stops when they are learned."""
    four_images(root, source)
    best = 0.0

    def watch(line: str) -> None:
        nonlocal best
        if "best" in line and "val mIoU" in line and "best epoch" not in line:
            best = float(line.split("(best ")[1].split(")")[0])

    from segtune.training import fit

    classes = "[" + ",".join(f"c{i}" for i in range(11)) + "]"
    config = compose(
        [
            *overrides(name), "dataset=folder", f"dataset.root='{root}'", f"dataset.classes={classes}",
            f"dataset.ignore={THIN[source]}", "loss=ce", "augment=none", "optimizer=adamw", "scheduler=constant",
            "optimizer.weight_decay=0", "hp.image_size=[192]", "hp.batch_size=4", "hp.num_epochs=300",
            "hp.per_item_lrate=2.5e-4", "trainer.accelerator=cpu", "trainer.precision=fp32",
            "trainer.val_every=10", "tracking.overlays=0", "trainer.ema_decay=null",
        ]
    ).config  # fmt: skip
    result = fit(config, say=watch, on_epoch=lambda epoch, metrics: metrics["val/miou"] > 0.96)
    return max(best, result.miou)


@pytest.mark.slow
def test_swift_learns_four_images(tmp_path):
    assert overfit("swift", tmp_path / "data", "street") > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_learns_four_real_images(name, tmp_path, camvid):
    assert overfit(name, tmp_path / "data", "camvid") > 0.95


def test_templates_are_given_out_as_data():
    data = segtune.templates("segformer")[0].to_json()
    expected = {"type": "int", "default": 8, "min": 1, "max": 16, "step": 1, "search": {"choices": [4, 8, 16]}}
    assert data["hyperparameters"]["batch_size"] == expected
