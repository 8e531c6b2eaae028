"""Weights to start from: tensors that fit are copied, at the head class by class."""

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from segtune.errors import ConfigError
from segtune.models.build import build
from segtune.models.folder import write_folder
from segtune.models.labeler import build_labeler
from segtune.models.pretrained import copy_weights

SWIFT = {"architecture": "Swift", "encoder": "narrow_resnet", "width": 16}


def test_the_encoder_and_the_rows_of_shared_classes_are_copied(tmp_path):
    torch.manual_seed(0)
    old, new = build(SWIFT, 3), build(SWIFT, 4)
    names = ["road", "car", "sky"]
    write_folder(tmp_path / "s", old.state_dict(), {"classes": [{"name": n} for n in names]})
    before = new.state_dict()["net.head.1.weight"].clone()
    copy_weights(new, tmp_path / "s", ["sky", "bike", "road", "car"])
    head, source = new.state_dict()["net.head.1.weight"], old.state_dict()["net.head.1.weight"]
    for row, expected in enumerate((source[2], before[1], source[0], source[1])):
        assert torch.equal(head[row], expected)
    for name, tensor in old.state_dict().items():
        if ".encoder." in name:
            assert torch.equal(new.state_dict()[name], tensor)


EOMT = {"architecture": "Eomt", "encoder": "test_vit", "num_queries": 6, "num_blocks": 2}
UNET = {"architecture": "Unet", "encoder": "resnet18"}
LABELER = {"architecture": "MaskPool", "encoder": "resnet10t", "width": 16}
LAYERS_OF_CLASSES = {
    "eomt": (lambda n: build(EOMT, n), ["net.class_head"], 1),
    "swift": (lambda n: build(SWIFT, n), ["net.head.1"], 0),
    "unet": (lambda n: build(UNET, n), ["net.segmentation_head.0"], 0),
    "labeler": (lambda n: build_labeler(LABELER, n), ["head.3", "places"], 0),
}


@pytest.mark.parametrize("kind", LAYERS_OF_CLASSES)
@pytest.mark.parametrize(
    "names",
    [
        ["sky", "road", "car"],
        ["sky", "bike", "road", "car"],
        ["sky", "road"],
        ["bike", "sky", "tree"],
    ],
    ids=["reordered", "added", "removed", "exchanged"],
)
def test_every_architecture_copies_rows_of_classes_by_name(tmp_path, kind, names):
    make, layers, extra = LAYERS_OF_CLASSES[kind]
    torch.manual_seed(0)
    before = ["road", "car", "sky"]
    old, new = make(len(before)), make(len(names))
    write_folder(tmp_path / "s", old.state_dict(), {"classes": [{"name": n} for n in before]})
    fresh = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    copy_weights(new, tmp_path / "s", names)
    source, taken = old.state_dict(), new.state_dict()
    of_classes = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    for tensor in of_classes:
        assert len(taken[tensor]) == len(names) + extra
        for row, name in enumerate(names):
            expected = source[tensor][before.index(name)] if name in before else fresh[tensor][row]
            assert torch.equal(taken[tensor][row], expected), (tensor, name)
        if extra:  # the row for no object
            assert torch.equal(taken[tensor][-1], source[tensor][-1])
    assert all(torch.equal(taken[name], source[name]) for name in source if name not in of_classes)


def test_a_layer_with_as_many_rows_as_classes_is_not_taken_for_one_of_classes(tmp_path):
    """test_vit is 64 wide: the rows of its mask head are not those of 64 classes."""
    torch.manual_seed(0)
    names = [f"class {n}" for n in range(64)]
    old, new = build(EOMT, 64), build(EOMT, 64)
    write_folder(tmp_path / "s", old.state_dict(), {"classes": [{"name": n} for n in names]})
    copy_weights(new, tmp_path / "s", names[::-1])
    for name in ("net.mask_head.0.weight", "net.mask_head.4.bias"):
        assert torch.equal(new.state_dict()[name], old.state_dict()[name])


def test_weights_whose_decoder_alone_fits_are_refused(tmp_path):
    old, new = build(UNET, 3), build({**UNET, "encoder": "mobilenetv3_large_100"}, 3)
    decoder = {k: v for k, v in old.state_dict().items() if ".encoder." not in k}
    save_file(decoder, tmp_path / "decoder.safetensors")
    with pytest.raises(ConfigError, match="fits this model's encoder"):
        copy_weights(new, tmp_path / "decoder.safetensors", ["a", "b", "c"])


def test_an_encoder_that_was_saved_alone_is_copied(tmp_path):
    old, new = build(SWIFT, 3), build(SWIFT, 3)
    encoder = old.net.encoder.state_dict()
    save_file(encoder, tmp_path / "encoder.safetensors")
    assert copy_weights(new, tmp_path / "encoder.safetensors", ["a", "b", "c"]) == len(encoder)
    weights = [model.net.encoder.layer1[0].conv1.weight for model in (old, new)]
    assert torch.equal(*weights)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="none of the 1 tensors fits"):
        copy_weights(build(SWIFT, 3), tmp_path / "x.safetensors", ["a", "b", "c"])


@pytest.mark.parametrize(
    ("other", "own", "message"),
    [
        ("resnet50", "resnet18", "only .* of the 100 tensors"),
        ("resnet10t", "resnet18", "only .* of the 100 tensors"),
        ("tf_efficientnet_lite1", "tf_efficientnet_lite0", "hold .* more tensors"),
    ],
)
def test_weights_of_a_related_encoder_are_refused(tmp_path, other, own, message):
    weights = timm.create_model(other, num_classes=0).state_dict()
    save_file(weights, tmp_path / "x.safetensors")
    model = build({"architecture": "Lite", "encoder": own}, 3)
    with pytest.raises(ConfigError, match=f"{message}.*another architecture"):
        copy_weights(model, tmp_path / "x.safetensors", ["a", "b", "c"])


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"PK not safetensors")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        copy_weights(build(SWIFT, 3), tmp_path / "w.safetensors", ["a", "b", "c"])


def test_without_a_network_imagenet_weights_come_from_the_hubs_cache(tmp_path, monkeypatch):
    hub = huggingface_hub.constants
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    encoder = timm.create_model("resnet10t")
    repository = tmp_path / f"models--{encoder.pretrained_cfg['hf_hub_id'].replace('/', '--')}"
    snapshot = repository / "snapshots" / "abc"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    snapshot.mkdir(parents=True)
    save_file(encoder.state_dict(), snapshot / "model.safetensors")
    model = build({"architecture": "FPN", "encoder": "resnet10t"}, 3, pretrained=True)
    weight = model.state_dict()["net.encoder.model.layer4.0.conv1.weight"]
    assert torch.equal(weight, encoder.layer4[0].conv1.weight)
    with pytest.raises(ConfigError, match="resnet18.*cannot be loaded.*Without a network"):
        build({"architecture": "FPN", "encoder": "resnet18"}, 3, pretrained=True)
