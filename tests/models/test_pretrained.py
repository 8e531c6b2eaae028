"""Starting from one's own weights: what fits is taken, class by class at the head."""

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from segtune.errors import ConfigError
from segtune.models.build import build
from segtune.models.folder import write_folder
from segtune.models.pretrained import take_over

SWIFT = {"architecture": "Swift", "encoder": "narrow_resnet", "width": 16}


def test_encoder_and_the_rows_of_agreeing_classes_are_taken(tmp_path):
    torch.manual_seed(0)
    old, new = build(SWIFT, 3), build(SWIFT, 4)
    names = ["road", "car", "sky"]
    write_folder(tmp_path / "s", old.state_dict(), {"classes": [{"name": n} for n in names]})
    before = new.state_dict()["net.head.1.weight"].clone()
    take_over(new, tmp_path / "s", ["sky", "bike", "road", "car"])
    head, source = new.state_dict()["net.head.1.weight"], old.state_dict()["net.head.1.weight"]
    assert torch.equal(head[0], source[2]) and torch.equal(head[2], source[0]) and torch.equal(head[3], source[1])
    assert torch.equal(head[1], before[1])
    for name, tensor in old.state_dict().items():
        if ".encoder." in name:
            assert torch.equal(new.state_dict()[name], tensor)


def test_an_encoder_saved_alone_is_taken(tmp_path):
    old, new = build(SWIFT, 3), build(SWIFT, 3)
    encoder = {k.removeprefix("net.encoder."): v for k, v in old.state_dict().items() if "net.encoder." in k}
    save_file(encoder, tmp_path / "encoder.safetensors")
    assert take_over(new, tmp_path / "encoder.safetensors", ["a", "b", "c"]) == len(encoder)
    assert torch.equal(new.net.encoder.layer1[0].conv1.weight, old.net.encoder.layer1[0].conv1.weight)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="none of the 1 tensors fits"):
        take_over(build(SWIFT, 3), tmp_path / "x.safetensors", ["a", "b", "c"])


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"PK not safetensors")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        take_over(build(SWIFT, 3), tmp_path / "w.safetensors", ["a", "b", "c"])


def test_imagenet_weights_come_out_of_the_hubs_cache_where_there_is_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    encoder = timm.create_model("resnet10t")
    repository = tmp_path / f"models--{encoder.pretrained_cfg['hf_hub_id'].replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_file(encoder.state_dict(), repository / "snapshots" / "abc" / "model.safetensors")
    model = build({"architecture": "FPN", "encoder": "resnet10t"}, 3, pretrained=True)
    assert torch.equal(model.state_dict()["net.encoder.model.layer4.0.conv1.weight"], encoder.layer4[0].conv1.weight)
    with pytest.raises(ConfigError, match="resnet18.*cannot be loaded.*Without a network"):
        build({"architecture": "FPN", "encoder": "resnet18"}, 3, pretrained=True)
