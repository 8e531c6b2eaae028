"""Starting from one's own weights: what fits is taken, class by class at the head."""

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


def test_encoder_and_the_rows_of_agreeing_classes_are_taken(tmp_path):
    torch.manual_seed(0)
    old, new = build(SWIFT, 3), build(SWIFT, 4)
    names = ["road", "car", "sky"]
    write_folder(tmp_path / "s", old.state_dict(), {"classes": [{"name": n} for n in names]})
    before = new.state_dict()["net.head.1.weight"].clone()
    copy_weights(new, tmp_path / "s", ["sky", "bike", "road", "car"])
    head, source = new.state_dict()["net.head.1.weight"], old.state_dict()["net.head.1.weight"]
    assert (
        torch.equal(head[0], source[2])
        and torch.equal(head[2], source[0])
        and torch.equal(head[3], source[1])
    )
    assert torch.equal(head[1], before[1])
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
def test_rows_of_classes_are_taken_by_name_whatever_the_architecture(tmp_path, kind, names):
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


def test_a_layer_as_wide_as_there_are_classes_is_no_layer_of_classes(tmp_path):
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


def test_an_encoder_saved_alone_is_taken(tmp_path):
    old, new = build(SWIFT, 3), build(SWIFT, 3)
    encoder = {
        k.removeprefix("net.encoder."): v
        for k, v in old.state_dict().items()
        if "net.encoder." in k
    }
    save_file(encoder, tmp_path / "encoder.safetensors")
    assert copy_weights(new, tmp_path / "encoder.safetensors", ["a", "b", "c"]) == len(encoder)
    assert torch.equal(
        new.net.encoder.layer1[0].conv1.weight, old.net.encoder.layer1[0].conv1.weight
    )


def test_weights_that_do_not_fit_are_refused(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="none of the 1 tensors fits"):
        copy_weights(build(SWIFT, 3), tmp_path / "x.safetensors", ["a", "b", "c"])


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"PK not safetensors")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        copy_weights(build(SWIFT, 3), tmp_path / "w.safetensors", ["a", "b", "c"])


def test_imagenet_weights_come_out_of_the_hubs_cache_where_there_is_no_network(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(
        huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9"
    )  # nobody answers there
    encoder = timm.create_model("resnet10t")
    repository = tmp_path / f"models--{encoder.pretrained_cfg['hf_hub_id'].replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_file(encoder.state_dict(), repository / "snapshots" / "abc" / "model.safetensors")
    model = build({"architecture": "FPN", "encoder": "resnet10t"}, 3, pretrained=True)
    assert torch.equal(
        model.state_dict()["net.encoder.model.layer4.0.conv1.weight"],
        encoder.layer4[0].conv1.weight,
    )
    with pytest.raises(ConfigError, match="resnet18.*cannot be loaded.*Without a network"):
        build({"architecture": "FPN", "encoder": "resnet18"}, 3, pretrained=True)
