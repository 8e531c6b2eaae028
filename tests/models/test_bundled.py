"""ImageNet weights of installed packages: they reach the encoder, or say what is missing."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_sample_images

from segtune.config.compose import compose
from segtune.errors import ConfigError
from segtune.models import bundled
from segtune.models.build import build
from segtune.models.bundled import BUNDLES, bundled_weights, has_bundle
from segtune.tasks.task import task_of
from segtune.training.initial_weights import check_weights, initial_model

ENCODER = "tf_efficientnet_lite0"


@pytest.mark.parametrize("encoder", BUNDLES)
def test_a_known_photo_is_a_palace(encoder):
    model = timm.create_model(encoder, pretrained=False)
    state = bundled_weights(f"tu-{encoder}.in1k")
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert all(key.endswith("num_batches_tracked") for key in missing)
    pixels = torch.from_numpy(load_sample_images().images[0][:, 106:533].copy())
    image = pixels.permute(2, 0, 1)[None] / 127.5 - 1
    image = torch.nn.functional.interpolate(image, size=(224, 224), mode="area")
    with torch.inference_mode():
        label = int(model.eval()(image).argmax())
    assert timm.data.ImageNetInfo().index_to_description(label).startswith("palace")


def test_the_converted_weights_are_kept_and_made_again_where_they_are_damaged(tmp_path):
    first = bundled_weights(ENCODER, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    for state in (bundled_weights(ENCODER, tmp_path), load_file(kept)):
        assert state.keys() == first.keys()
        assert all(torch.equal(tensor, first[name]) for name, tensor in state.items())


def config_of(*words: str):
    return compose([f"hp.encoder={ENCODER}", *words]).config


@pytest.mark.parametrize(
    ("weights", "template", "prefix"),
    [("bundled", "fpn", "net.encoder.model."), ("imagenet", "lite", "net.encoder.")],
)
def test_an_encoder_starts_from_its_packages_weights_where_the_hub_is_silent(
    weights, template, prefix, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = config_of(f"template={template}", f"hp.pretrained_weights={weights}")
    lines: list[str] = []
    model = initial_model(config, task_of(config), ["a", "b"], None, lines.append)
    state = bundled_weights(ENCODER)
    copied = {
        name.removeprefix(prefix): tensor
        for name, tensor in model.state_dict().items()
        if name.startswith("net.encoder.") and not name.endswith("num_batches_tracked")
    }
    assert len(copied) > 200
    assert all(torch.equal(tensor, state[name]) for name, tensor in copied.items())
    assert any("hub does not answer" in line for line in lines) == (weights == "imagenet")
    mean = build(config.template["model"], 2).preprocessing.mean
    np.testing.assert_allclose(mean, 0.5)


def test_weights_that_cannot_be_had_are_named_with_the_way_to_them(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"no package has weights of 'resnet18'.*lite0"):
        bundled_weights("resnet18")
    wrong = BUNDLES[ENCODER]._replace(sha256="0" * 64)
    monkeypatch.setitem(bundled.BUNDLES, ENCODER, wrong)
    with pytest.raises(ConfigError, match=r"has the sha256 57934424.*model==0\.1\.0"):
        bundled_weights(ENCODER)
    monkeypatch.setitem(bundled.BUNDLES, ENCODER, wrong._replace(package="no-such-package"))
    assert not has_bundle(ENCODER)
    config = config_of("template=lite", "hp.pretrained_weights=bundled")
    with pytest.raises(ConfigError, match=r"not installed.*pip install 'segtune\[weights\]'"):
        check_weights(config, task_of(config))
