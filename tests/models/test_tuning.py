"""Frozen encoders, layer-wise rates and low-rank updates."""

import copy
import re
from itertools import chain
from pathlib import Path

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file
from timm.optim import param_groups_layer_decay
from torch import nn

import segtune
from segtune.config.compose import compose
from segtune.config.schema import TuningConfig
from segtune.errors import ConfigError
from segtune.models.build import build
from segtune.models.labeler import build_labeler
from segtune.models.optim.optimizer import build_optimizer
from segtune.models.tuning import (
    add_lora,
    encoder_of,
    keep_statistics,
    layer_scales,
    merged_state,
)
from segtune.training.components import prepare
from segtune.training.feature_cache import _levels_read, encoded_views
from tests.conftest import TINY

CONF = Path(__file__).parents[2] / "conf"
IMAGE = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)


def test_layer_scales_equal_timms_for_a_vision_transformer():
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = vit, nn.Linear(192, 3)

    ours = layer_scales(Model(), 0.8)
    names = {id(p): n for n, p in vit.named_parameters()}
    for group in param_groups_layer_decay(vit, layer_decay=0.8):
        for parameter in group["params"]:
            assert ours["encoder." + names[id(parameter)]] == pytest.approx(group["lr_scale"])
    assert ours["head.weight"] == 1.0


def named_encoders() -> list[str]:
    """The encoders that templates name, without the larger ones of each family."""
    large = re.compile(r"_(base|large)_|mit_b[2-5]|vit_small|resnet(34|50)")
    files = [yaml.safe_load(path.read_text()) for path in (CONF / "template").glob("*.yaml")]
    declared = [file.get("template", file)["hyperparameters"].get("encoder", {}) for file in files]
    names = set(chain.from_iterable(d.get("choices", []) for d in declared))
    return sorted(name for name in names if not large.search(name))


@pytest.mark.parametrize("encoder", [e for e in named_encoders() if not e.startswith("mit_")])
def test_layer_scales_equal_timms_for_every_encoder_that_templates_name(encoder):
    """Parameters are paired by order; timm counts layers from the head, we from the features."""
    options = {"architecture": "FPN", "encoder": encoder}
    if "vit" in encoder:
        options |= {"architecture": "Eomt", "num_queries": 2, "num_blocks": 1}
    elif "swin" in encoder:
        options |= {"architecture": "UPerNet"}
    with torch.device("meta"):
        model = build(options, 3)
        whole = timm.create_model(encoder, num_classes=0)
    rates = {}
    for group in param_groups_layer_decay(whole, layer_decay=0.8):
        rates |= {id(p): group["lr_scale"] for p in group["params"]}
    ours = layer_scales(model, 0.8)
    own = [(ours[n], p) for n, p in model.named_parameters() if n.startswith("net.encoder.")]
    theirs = list(whole.parameters())[: len(own)]
    assert [p.shape for _, p in own] == [p.shape for p in theirs]
    highest = max(rates[id(p)] for p in theirs)
    assert [scale for scale, _ in own] == pytest.approx([rates[id(p)] / highest for p in theirs])
    assert {scale for name, scale in ours.items() if not name.startswith("net.encoder.")} == {1.0}


def test_an_encoder_learns_at_its_share_of_the_heads_rate():
    model = build({"architecture": "Lite", "encoder": "resnet10t"}, 3)
    config = compose(["template=lite"]).config.optimizer
    optimizer = build_optimizer(config, model, 0.1, TuningConfig(encoder_lr=0.25))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = 0.025 if name.startswith("net.encoder.") else 0.1
        assert rates[id(parameter)] == pytest.approx(expected), name
    both = layer_scales(model, 0.5, 0.25)
    layers = layer_scales(model, 0.5)
    for name, scale in both.items():
        share = 0.25 if name.startswith("net.encoder.") else 1.0
        assert scale == pytest.approx(share * layers[name])


def test_frozen_norms_keep_their_statistics_while_their_weights_learn():
    model = build({"architecture": "Lite", "encoder": "resnet10t"}, 3).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    keep_statistics(TuningConfig(norms="frozen"), model)
    model(IMAGE).square().mean().backward()
    for name, buffer in model.named_buffers():
        is_kept = torch.equal(buffer, before[name])
        assert is_kept == (".encoder." in name or "normalize" in name), name
    assert all(p.grad is not None for p in encoder_of(model).parameters())


def test_an_encoder_of_random_numbers_learns_from_the_start():
    words = [*TINY, "template=lite", "hp.encoder=resnet10t", "hp.pretrained_weights=none"]
    lines: list[str] = []
    components = prepare(compose(words).config, lines.append)
    assert components.config.tuning == TuningConfig()
    assert any("learns from the start" in line for line in lines)


def test_layer_scales_of_mix_transformers_follow_their_stages():
    """By hand, for two blocks in each of four stages."""
    model = build({"architecture": "Segformer", "encoder": "mit_b0"}, 3)
    scales, prefix = layer_scales(model, 0.5), "net.encoder."
    rates = {n.removeprefix(prefix): s for n, s in scales.items() if n.startswith(prefix)}
    expected = {"patch_embed1.": 0.5**8}
    for stage in (1, 2, 3, 4):
        first, second = 0.5 ** (9 - 2 * stage), 0.5 ** (8 - 2 * stage)
        expected |= {f"block{stage}.0.": first, f"block{stage}.1.": second, f"norm{stage}.": second}
        expected |= {f"patch_embed{stage}.": first} if stage > 1 else {}
    for name, rate in rates.items():
        start = next(start for start in expected if name.startswith(start))
        assert rate == expected[start], name


@pytest.mark.parametrize("encoder", ["resnet10t", "mobilenetv3_large_100"])
def test_a_labelers_encoder_and_swifts_have_layers_too(encoder):
    labeler = build_labeler({"architecture": "MaskPool", "encoder": encoder, "width": 16}, 3)
    for model in (labeler, build({"architecture": "Swift", "width": 16}, 3)):
        scales = layer_scales(model, 0.5)
        inside = [scales[n] for n, _ in model.named_parameters() if "encoder." in n]
        assert inside[0] == min(inside) < max(inside) == 1.0 and len(set(inside)) >= 5
        assert {scales[n] for n, _ in model.named_parameters() if "encoder." not in n} == {1.0}


def test_lora_starts_as_the_model_it_changes_and_merges_into_a_plain_one():
    torch.manual_seed(0)
    model = build({"architecture": "DPT", "encoder": "vit_tiny_patch16_224"}, 3).eval()
    plain = copy.deepcopy(model)
    with torch.no_grad():
        before = model(IMAGE)
        assert add_lora(encoder_of(model), rank=4, alpha=8.0) == 24  # qkv and proj of twelve blocks
        assert torch.allclose(model(IMAGE), before, atol=1e-5)
        for module in model.modules():
            if hasattr(module, "lora_b"):
                nn.init.normal_(module.lora_b, std=0.1)
        changed = model(IMAGE)
        plain.load_state_dict(merged_state(model))
        assert not torch.allclose(changed, before, atol=1e-2)
        assert torch.allclose(plain(IMAGE), changed, atol=1e-4)


def trained_from(run, root, *words):
    base = [w for w in TINY if not w.startswith("hp.per_item")]
    more = [
        f"hp.pretrained_weights='{run.segmenter}'",
        "hp.per_item_lrate=1e-2",
        f"tracking.root='{root}'",
    ]
    return segtune.train(*base, *more, *words, say=lambda _: None)


def encoder_state(folder):
    return {k: v for k, v in segtune.load(folder).model.state_dict().items() if ".encoder." in k}


def test_a_frozen_encoder_keeps_every_number_while_the_head_learns(tiny_run, tmp_path):
    done = trained_from(tiny_run, tmp_path, "tuning.encoder=frozen")
    before, after = encoder_state(tiny_run.segmenter), encoder_state(done.segmenter)
    assert all(torch.equal(before[k], after[k]) for k in before)
    heads = [segtune.load(r.segmenter).model.net.head[1].weight for r in (tiny_run, done)]
    assert not torch.equal(*heads)


def test_the_encoder_is_trained_after_the_frozen_epochs(tiny_run, tmp_path):
    last = "trainer.val_every=2"  # keeps the last of two epochs
    still = trained_from(tiny_run, tmp_path, "tuning.frozen_epochs=2", last)
    moved = trained_from(tiny_run, tmp_path, "tuning.frozen_epochs=1", last)
    before = encoder_state(tiny_run.segmenter)
    for done, same in ((still, True), (moved, False)):
        after = encoder_state(done.segmenter)
        assert all(torch.equal(before[k], after[k]) for k in before) == same


@pytest.mark.slow  # two trainings of a transformer
@pytest.mark.ci
def test_a_run_with_lora_leaves_a_plain_segmenter(tmp_path):
    base = [w for w in TINY if "template" not in w and "hp.width" not in w]
    words = [
        "template=eomt",
        "hp.encoder=test_vit",
        "hp.num_queries=12",
        "loss.points=64",
        f"tracking.root='{tmp_path}'",
        "trainer.ema_decay=0.5",
    ]
    first = segtune.train(*base, *words, "hp.pretrained_weights=none", say=lambda _: None)
    words += [f"hp.pretrained_weights='{first.segmenter}'", "++hp.per_item_lrate=1e-2"]
    second = segtune.train(*base, *words, "tuning=lora", say=lambda _: None)
    before, after = encoder_state(first.segmenter), encoder_state(second.segmenter)
    assert set(before) == set(after)
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed and all(".attn." in k and k.endswith("weight") for k in changed)


@pytest.mark.parametrize(
    "architecture",
    ["Swift", "Unet", "FPN", "DeepLabV3Plus", "UPerNet", "Linknet", "PSPNet", "Segformer"],
)
def test_decoding_encoded_features_equals_the_model(architecture):
    model = build({"architecture": architecture, "encoder": "resnet18"}, 3).eval()
    image = torch.randint(0, 256, (2, 3, 50, 70), dtype=torch.uint8)
    with torch.no_grad():
        for stride in (1, 4):
            decoded = model.decode(model.encode(image), (50, 70), stride)
            assert torch.equal(decoded, model(image, stride=stride))


def test_a_head_is_trained_on_features_that_are_encoded_once(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    base = [w for w in TINY if not w.startswith("hp.per_item")]
    base += [
        f"hp.pretrained_weights='{tiny_run.segmenter}'",
        f"tracking.root='{tmp_path}'",
        "tuning=head",
    ]
    base += ["trainer.class_offsets=false"]  # they would change the segmenter's score
    base += ["trainer.channels_last=true"]  # the weights change their format before they encode
    lines = []
    for lr in ("1e-3", "1e-2"):
        done = segtune.train(*base, f"hp.per_item_lrate={lr}", say=lines.append)
        before, after = encoder_state(tiny_run.segmenter), encoder_state(done.segmenter)
        assert all(torch.equal(before[k], after[k]) for k in before)
        scores = re.findall(r"\(best ([\d.]+)\)", "\n".join(lines[-4:]))
        # the segmenter scores as its head did on the features
        assert max(map(float, scores)) == pytest.approx(done.miou, abs=0.01)
    assert sum(line.startswith("encoding 24 train views") for line in lines) == 1


@pytest.mark.parametrize(
    ("architecture", "read"), [("Unet", 5), ("FPN", 4), ("Linknet", 5), ("DeepLabV3Plus", 2)]
)
def test_the_levels_that_a_head_reads_are_found(architecture, read):
    model = build({"architecture": architecture, "encoder": "resnet18"}, 3).eval()
    with torch.no_grad():
        used = _levels_read(model, model.encode(IMAGE), (64, 64))
    assert sum(used) == read and used[-1] and not used[0]  # level 0 is the image itself


def test_features_of_an_inseparable_network_are_refused(tmp_path):
    net = {"architecture": "Eomt", "encoder": "test_vit", "num_queries": 12, "num_blocks": 4}
    save_file(build(net, 10).state_dict(), tmp_path / "weights.safetensors")
    base = [w for w in TINY if "template" not in w and "hp.width" not in w]
    base += ["template=eomt", "hp.encoder=test_vit", "hp.num_queries=12", "tuning=head"]
    base += [f"hp.pretrained_weights='{tmp_path}/weights.safetensors'"]
    setup = prepare(compose(base).config, lambda _: None)
    with pytest.raises(ConfigError, match="cannot be taken apart"):
        encoded_views(setup, lambda _: None)


def test_a_frozen_encoder_needs_weights_and_cached_views_need_a_frozen_encoder(tmp_path):
    with pytest.raises(ConfigError, match="random numbers"):
        segtune.train(*TINY, "tuning=lora", f"tracking.root='{tmp_path}'", say=lambda _: None)
    with pytest.raises(ConfigError, match="encoder=frozen"):
        compose(["tuning.cached_views=3"])
