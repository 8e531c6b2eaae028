"""Models by name: sizes of logits, normalisation, and messages for unknown names."""

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from timm.models.resnet import BasicBlock

from segtune.errors import ConfigError
from segtune.models.build import build
from segtune.models.networks.lite import StridedSame
from segtune.models.networks.swift import Swift
from segtune.plugins.registry import parts

SWIFT = {"architecture": "Swift", "encoder": "narrow_resnet", "width": 16}


@pytest.mark.parametrize("size", [(64, 96), (61, 83), (33, 40)])
@pytest.mark.parametrize(
    "model", [SWIFT, {"architecture": "FPN", "encoder": "resnet18"}], ids=["swift", "fpn"]
)
def test_logits_have_the_size_of_the_image(model, size):
    net = build(model, 5).eval()
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    assert net(image).shape == (2, 5, *size)
    assert net(image, stride=4).shape == (2, 5, -(-size[0] // 4), -(-size[1] // 4))


def test_lites_encoder_gives_timms_features_without_reading_sizes():
    name = "tf_efficientnet_lite0"
    theirs = timm.create_model(name, features_only=True).eval()
    ours = build({"architecture": "Lite", "encoder": name}, 3).net.encoder.eval()
    ours.load_state_dict(theirs.state_dict())
    assert sum(isinstance(module, StridedSame) for module in ours.modules()) == 5
    assert not any(isinstance(module, Conv2dSame) for module in ours.modules())
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for mine, other in zip(ours(image), theirs(image), strict=True):
            torch.testing.assert_close(mine, other)


def test_normalisation_is_inside_and_equals_the_textbook_form():
    net = build(SWIFT, 3).eval()
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    by_hand = (image.float() / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    expected = torch.nn.functional.interpolate(net.net(by_hand), size=(32, 32), mode="bilinear")
    torch.testing.assert_close(net(image), expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_architecture_and_encoder_name_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'Unet'"):
        build({"architecture": "Unett", "encoder": "resnet18"}, 2)
    with pytest.raises(ConfigError, match="resnet18"):
        build({"architecture": "Unet", "encoder": "resnet_18"}, 2)


def test_any_timm_encoder_can_be_named():
    net = build({"architecture": "FPN", "encoder": "mobilenetv4_conv_small"}, 2)
    assert net(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape == (1, 2, 64, 64)


def test_dpt_refuses_patches_that_its_levels_cannot_double():
    message = r"patches are 14 pixels wide, and dpt takes 8, 16 or 32.*template=eomt"
    with pytest.raises(ConfigError, match=message):
        build({"architecture": "DPT", "encoder": "vit_small_patch14_dinov2"}, 2)


def test_pretrained_weights_without_a_network_name_the_remedies(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    message = "hp.pretrained_weights=none, a safetensors file, a registered"
    with pytest.raises(ConfigError, match=message):
        build({"architecture": "FPN", "encoder": "resnet18"}, 2, pretrained=True)


def test_swift_has_no_imagenet_weights_and_says_so():
    with pytest.raises(ConfigError, match="swift has no ImageNet weights"):
        build(SWIFT, 2, pretrained=True)


@pytest.mark.parametrize(("depth", "blocks"), [({}, 8), ({"depth": 1}, 4)])
def test_swift_has_two_residual_blocks_per_stage_by_default(depth, blocks):
    net = build({**SWIFT, **depth}, 3).net
    assert sum(type(module) is BasicBlock for module in net.modules()) == blocks


@pytest.mark.parametrize(
    ("stem", "kernels"), [({}, [3, 3, 3]), ({"stem": "deep"}, [3, 3, 3]), ({"stem": "single"}, [5])]
)
def test_swift_has_a_deep_stem_by_default(stem, kernels):
    """Segmenters that were saved before `stem` existed do not name it."""
    encoder = build({**SWIFT, **stem}, 3).net.encoder
    convolutions = [m for m in encoder.conv1.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.kernel_size[0] for m in convolutions] == kernels
    assert next(iter(encoder(torch.zeros(1, 3, 61, 84)))).shape[-2:] == (16, 21)


def test_a_single_stem_equals_pooling_last_where_batch_norm_keeps_the_order():
    net = build({**SWIFT, "stem": "single"}, 3).net.eval()
    conv, pool = net.encoder.conv1
    norm = net.encoder.bn1
    torch.nn.init.uniform_(norm.weight, 0.1, 2.0)
    torch.nn.init.normal_(norm.running_mean)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pooled_last = pool(norm(conv(image)).relu())
        torch.testing.assert_close(norm(net.encoder.conv1(image)).relu(), pooled_last)


def test_swift_aligns_its_levels_at_sizes_that_32_does_not_divide():
    """The logits of a row do not depend on the number of rows below it."""
    net = Swift(3, width=16, dropout=0.0).eval()
    net.context = torch.nn.Conv2d(96, 32, 1)  # no pooling, which sees the whole
    net.smooth = torch.nn.ModuleList(torch.nn.Identity() for _ in net.smooth)
    torch.manual_seed(0)
    levels = [
        torch.randn(1, c, 128 // s, 64 // s) for c, s in ((16, 4), (32, 8), (64, 16), (96, 32))
    ]
    cut = [level[:, :, : -(-104 // s)] for level, s in zip(levels, (4, 8, 16, 32), strict=True)]
    with torch.no_grad():
        whole, shorter = net.decode(levels), net.decode(cut)
    assert shorter.shape[2] == 26
    torch.testing.assert_close(shorter[:, :, :20], whole[:, :, :20])


ENCODERS = {
    "Eomt": ["test_vit", "vit_small_patch14_reg4_dinov2"],
    "DPT": ["vit_tiny_patch16_224"],
    "Segformer": ["mit_b0", "resnet18"],
    "Swift": ["narrow_resnet"],
}


@pytest.mark.parametrize("architecture", sorted(parts("architecture")))
def test_resized_logits_keep_their_place_at_every_stride(architecture):
    """Places replace the logits of the network; each resized logit must name its own centre."""
    for encoder in ENCODERS.get(architecture, ["resnet18", "mobilenetv3_large_100"]):
        more = {"num_queries": 2, "num_blocks": 1} if architecture == "Eomt" else {}
        section = {"architecture": architecture, "encoder": encoder, **more}
        if architecture == "Ensemble":
            member = {"architecture": "FPN", "encoder": encoder}
            section = {"architecture": architecture, "member": member, "count": 2}
        model = build(section, 2)
        model = model.to("meta").eval()
        for size in ((64, 96), (61, 83), (100, 130)):
            for stride in (1, 4):
                check_places(model, size, stride)


def check_places(model, size, stride):
    logits = model.coarse(torch.zeros(1, 3, *size, dtype=torch.uint8, device="meta"))
    cells = logits.shape[-2:]
    steps = [side / count for side, count in zip(model.padded(size), cells, strict=True)]
    y, x = (step * (torch.arange(count) + 0.5) for step, count in zip(steps, cells, strict=True))
    places = torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]
    resized = model.at_size(places, size, stride)[0]
    assert resized.shape[1:] == (-(-size[0] // stride), -(-size[1] // stride))
    for axis, (values, step) in enumerate(zip(resized, steps, strict=True)):
        centres = stride * (torch.arange(values.shape[axis]) + 0.5)
        # at the border the nearest cell is not interpolated
        inside = (centres > step) & (centres < size[axis] - step)
        along = values.movedim(axis, 0)[inside]
        expected = centres[inside, None].expand_as(along)
        torch.testing.assert_close(along, expected, atol=1e-3, rtol=0, msg=f"{size}, {stride}")
