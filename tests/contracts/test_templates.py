"""Every template has sound ranges, builds, steps, saves, and learns four images."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from timm.layers import DropPath

import segtune
from segtune.config.compose import compose
from segtune.config.conf_files import load_template, members
from segtune.data.reading.images import read_image, read_mask
from segtune.errors import ConfigError
from segtune.models.build import build
from segtune.models.fitting import check_image_size
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.optim.optimizer import build_optimizer
from segtune.tasks.segmentation import Segmentation
from segtune.training.fit import fit
from segtune.training.request import RunHooks
from tests.conftest import write_pairs

TEMPLATES = [n for n in members("template") if load_template(n).kind == "segmenter"]
SMALL = {
    "swift": ["hp.width=16"],
    "upernet": ["hp.encoder=resnet18"],
    "dpt": ["hp.encoder=vit_tiny_patch16_224"],
}
SMALL["eomt"] = ["hp.encoder=test_vit", "hp.num_queries=20", "hp.num_blocks=3", "loss.points=1024"]
# Settings with which each template memorises four images (LOG.md). Unless a recipe says otherwise,
# 96 rows are enlarged to 288, so that logits at stride 4 or 8 resolve a pole two pixels wide.
_PLAIN = ["loss=ce", "scheduler=constant"]
_AVERAGED = ["loss=ce_dice", "scheduler=constant", "trainer.ema_decay=0.95"]
_FALLING = ["loss=ce_dice", "scheduler=cosine", "trainer.ema_decay=0.95"]
RECIPES = {
    "swift": [
        "loss=ce_dice",
        "scheduler=cosine",
        "++hp.per_item_lrate=1e-3",
        "++hp.num_epochs=50",
    ],  # Muon's rate
    "lite": _FALLING,
    "segformer": _AVERAGED,
    "upernet": _AVERAGED,
    "unet": _AVERAGED,
    "deeplabv3plus": _PLAIN,
    "fpn": _PLAIN,
    "linknet": _PLAIN,
    "unetplusplus": [*_FALLING, "++hp.image_size=[192]", "++hp.num_epochs=80"],
    "pspnet": [
        *_FALLING,
        "++hp.image_size=[480]",
        "++hp.num_epochs=100",
        "template.model.psp_dropout=0",
    ],
    "eomt": [
        "optimizer=muon",
        "++hp.per_item_lrate=1e-3",
        "++hp.num_epochs=120",
        "trainer.ema_decay=0.95",
    ],
    "dpt": [*_FALLING, "++hp.image_size=[256]", "++hp.num_epochs=130"],
}
REQUIRED = {"image_size", "batch_size", "num_epochs", "per_item_lrate", "pretrained_weights"}


def test_there_are_twelve_templates():
    named = {
        *("segformer", "unet", "unetplusplus", "fpn", "deeplabv3plus", "upernet", "pspnet"),
        *("linknet", "dpt", "swift", "lite", "eomt"),
    }
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
def test_it_builds_and_one_step_moves_every_parameter(name):
    config = compose(overrides(name)).config
    torch.manual_seed(0)
    model = build(config.template["model"], 5)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and not module.weight.any():
            torch.nn.init.ones_(
                module.weight
            )  # timm starts residual branches at zero: nothing behind is reached
        if isinstance(module, DropPath):
            module.eval()  # nor in a branch that this step leaves out
    loss = SegmentationLoss(config.loss, [0.2] * 5)
    optimizer = build_optimizer(config.optimizer, model, 1e-3)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    mask = torch.randint(0, 5, (2, 64, 96)).to(torch.uint8)
    value = Segmentation().loss_of(model, loss, {"image": image, "mask": mask})
    value.backward()
    optimizer.step()
    still = {n for n, p in model.named_parameters() if torch.equal(before[n], p)}
    assert torch.isfinite(value) and not still


@pytest.mark.parametrize(
    ("name", "encoder"),
    [*((n, None) for n in TEMPLATES), ("eomt", "vit_small_patch14_reg4_dinov2")],
)
def test_it_takes_images_of_any_size_of_32_and_more(name, encoder):
    own = [*overrides(name), *([f"hp.encoder={encoder}"] if encoder else [])]
    model = build(compose([*own, "hp.image_size=[361]"]).config.template["model"], 3)
    for height, width in ((32, 32), (45, 51), (60, 83)):
        check_image_size(model, (height, width), str(encoder))
        image = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
        assert model.train()(image).shape == (2, 3, height, width)
    with pytest.raises(ConfigError, match="allowed is 32..2048"):
        compose([*own, "hp.image_size=[31]"])


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_offset_of_its_classes_moves_its_logits_by_as_much(name):
    model = build(compose(overrides(name)).config.template["model"], 5).eval()
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    if name == "eomt":  # its logits are no layer's
        assert model.classifier is None
        return
    offsets = torch.arange(5.0)
    with torch.inference_mode():
        before = model(image)
        model.classifier.bias += offsets
        torch.testing.assert_close(
            model(image), before + offsets.view(1, 5, 1, 1), rtol=0, atol=1e-3
        )


def four_windows(root: Path, camvid: Path) -> None:
    """Write four windows of 128x96 pixels from four CamVid scenes into both splits."""
    names = sorted(p.name for p in (camvid / "images" / "train").iterdir())[::90][:4]
    pairs = []
    for name in names:
        image, mask = (
            read_image(camvid / "images" / "train" / name),
            read_mask(camvid / "masks" / "train" / name),
        )
        pairs.append((image[132:228, 176:304], mask[132:228, 176:304]))
    write_pairs(root, "train", pairs * 8)  # eight steps an epoch
    write_pairs(root, "val", pairs)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.ci if n == "swift" else ()) for n in TEMPLATES]
)
def test_every_template_learns_four_real_images(name, tmp_path, camvid):
    four_windows(tmp_path / "data", camvid)
    best = 0.0

    def learned(epoch: int, metrics: Mapping[str, float]) -> bool:
        nonlocal best
        best = max(best, metrics["val/miou"])
        return best > 0.95

    config = compose(
        [
            *overrides(name),
            "dataset=camvid",
            f"dataset.root='{tmp_path / 'data'}'",
            "dataset.download=null",
            "augment=none",
            "optimizer.weight_decay=0",
            "hp.num_epochs=60",
            "hp.image_size=[288]",
            "hp.batch_size=4",
            "hp.per_item_lrate=2.5e-4",
            "trainer=cpu",
            "trainer.threads=1",
            "trainer.val_every=5",
            "tracking.overlays=0",
            *RECIPES[name],
        ]
    ).config
    fit(config, hooks=RunHooks(on_epoch=learned))
    assert best > 0.95


def test_templates_are_available_as_data():
    data = segtune.templates("segformer")[0].to_json()
    expected = {
        "type": "int",
        "default": 8,
        "min": 1,
        "max": 16,
        "step": 1,
        "search": {"choices": [4, 8, 16]},
    }
    assert data["hyperparameters"]["batch_size"] == expected
