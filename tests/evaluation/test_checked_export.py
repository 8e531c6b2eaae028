"""An export agrees with its segmenter at any image size; an export that does not is discarded."""

import builtins
import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import segtune
from segtune.cli.main import main
from segtune.errors import ConfigError, DataError
from segtune.inference.engines.graphs import (
    EXPORT_FORMATS,
    Runtime,
    pool_by_sums,
    to_int8,
    to_onnx,
    to_openvino,
)
from segtune.inference.segmenter import Segmenter
from segtune.models.build import build
from segtune.models.networks.network import Network
from segtune.models.preprocessing import Preprocessing
from segtune.models.segmentation_model import SegmentationModel
from tests.conftest import SCENES

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'segtune[export]'")
for name in ("onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(name, reason="needs the extra: pip install 'segtune[export]'")


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 7), st.integers(1, 7))
@settings(deadline=None)
def test_pooling_by_sums_equals_torchs(height, width, rows, columns):
    x = torch.randn(1, 2, height, width, dtype=torch.float64)
    torch.testing.assert_close(
        pool_by_sums(x, (rows, columns)), F.adaptive_avg_pool2d(x, (rows, columns))
    )


class Small(Network):
    """A quarter of the resolution, with pooled context."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x):
        features = self.encoder(x)
        context = F.adaptive_avg_pool2d(features, (2, 3))
        return self.head(features + F.interpolate(context, features.shape[-2:]))


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return SegmentationModel(Small(), Preprocessing()).eval()


@pytest.fixture(scope="module")
def traced(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    assert to_onnx(small, path, (64, 96))
    return path


SHAPES = ((2, 3, 50, 70), (1, 3, 64, 96), (3, 3, 97, 33))


@pytest.mark.slow
@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_a_graph_agrees_with_its_model_at_sizes_other_than_the_traced_one(
    format, small, traced, tmp_path
):
    batches = [np.random.default_rng(0).integers(0, 256, s, dtype=np.uint8) for s in SHAPES]
    path = traced
    if format == "openvino":
        to_openvino(traced, path := tmp_path / "model.xml")
    elif format == "int8":
        images = [image.transpose(1, 2, 0) for image in batches[0]]
        to_int8(traced, path := tmp_path / "int8.onnx", images)
        assert sorted(quantised(path)) == [False, True, True]  # not the one of the image itself
    runtime = Runtime(path)
    for images in batches:
        with torch.inference_mode():
            expected = small(torch.from_numpy(images)).argmax(1).numpy()
        agreement = np.mean(runtime.masks(images) == expected)
        assert agreement >= (0.95 if format == "int8" else 0.999)


@pytest.mark.slow
@pytest.mark.ci
def test_an_export_agrees_with_its_segmenter_at_sizes_other_than_the_traced_one(
    tiny_run, store_root, tmp_path, monkeypatch
):
    traced = tmp_path / "model.onnx"  # once: tracing takes half a minute
    assert to_onnx(Segmenter.load(tiny_run.segmenter).model, traced, (64, 96))
    monkeypatch.setattr(
        "segtune.evaluation.checked_export.to_onnx",
        lambda model, to, size: bool(shutil.copy(traced, to)),
    )
    for format in EXPORT_FORMATS:
        check_agreement(format, tiny_run, store_root, tmp_path / f"an export as {format}")
    int8 = quantised(tmp_path / "an export as int8" / "model.onnx")
    # all convolutions but the first, which sees the image itself
    assert int8.count(False) == 1 and not int8[0] and len(int8) > 20
    record = json.loads((tiny_run.folder / "exports" / "onnx.json").read_text())  # for the gate
    assert record["precision"] == "fp32" and record["agreement"] > 0.999


def quantised(path):
    """For each convolution of a graph, true if its weights are int8."""
    nodes = onnx.load(path).graph.node
    made_by = {output: node.op_type for node in nodes for output in node.output}
    return [made_by.get(n.input[1]) == "DequantizeLinear" for n in nodes if n.op_type == "Conv"]


def check_agreement(format, run, store_root, output):
    # after two epochs, the logits of some classes hardly differ, and int8 rounds them
    limit = 0.7 if format == "int8" else 0.999
    done = segtune.export(
        run.run_id,
        *SCENES,
        f"tracking.root='{store_root}'",
        format=format,
        output=output,
        min_agreement=limit,
    )
    assert done.dynamic and done.agreement >= limit and done.images == 3
    record = json.loads((output / "export.json").read_text())
    assert record["agreement"] == done.agreement
    assert record["opset"] == 18 and len(record["classes"]) == 10
    segmenter = Segmenter.load(run.segmenter)
    runtime = Runtime(output / ("model.xml" if format == "openvino" else "model.onnx"))
    for shape in SHAPES:
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        with torch.inference_mode():
            expected = segmenter.model(torch.from_numpy(images)).argmax(1).numpy()
        assert np.mean(runtime.masks(images) == expected) >= (0.5 if format == "int8" else 0.998)


def test_an_export_that_does_not_agree_is_discarded(tiny_run, store_root, tmp_path, monkeypatch):
    class AllSky(torch.nn.Module):
        def forward(self, images):
            return torch.zeros_like(images[:, 0])

    def broken(model, to, size):
        image = torch.zeros(1, 3, *size, dtype=torch.uint8)
        names = {"input_names": ["image"], "output_names": ["mask"]}
        torch.onnx.export(
            AllSky().eval(),
            (image,),
            str(to),
            dynamo=True,
            external_data=False,
            verbose=False,
            **names,
        )
        return False

    monkeypatch.setattr("segtune.evaluation.checked_export.to_onnx", broken)
    with pytest.raises(
        DataError, match=r"agrees with it on .* at least 99\.90% are asked for .*: nothing was kept"
    ):
        segtune.export(
            tiny_run.run_id, *SCENES, f"tracking.root='{store_root}'", output=tmp_path / "x"
        )
    assert not (tmp_path / "x").exists()


def test_int8_without_train_images_is_refused(tiny_run, store_root, tmp_path):
    words = [
        *SCENES,
        f"tracking.root='{store_root}'",
        "dataset.images='images/val'",
        "dataset.masks='masks/val'",
    ]
    (tmp_path / "val.txt").write_text("00000\n")
    words.append(f"dataset.splits.lists='{tmp_path}/{{split}}.txt'")
    with pytest.raises(DataError, match="int8 is calibrated on train images, and there are none"):
        segtune.export(tiny_run.run_id, *words, format="int8", output=tmp_path / "x")


def test_a_missing_library_is_named_with_its_extra(monkeypatch, tiny_run, store_root):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr("importlib.import_module", lambda name: without(name))
    with pytest.raises(
        ConfigError, match=r"int8 needs onnxruntime: pip install 'segtune\[export\]'"
    ):
        segtune.export(tiny_run.run_id, *SCENES, f"tracking.root='{store_root}'", format="int8")


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["model=x", "format=onx"], 2, "did you mean 'onnx'?"),
        (["format=onnx"], 2, "export needs model=URI"),
        (["model=nowhere", "dataset=street"], 2, "is no segmenter"),
        (["model=nowhere", "images=-3"], 2, "a whole number above 0"),
    ],
)
def test_wrong_words_are_refused(words, code, hint, capsys):
    assert main(["export", *words]) == code
    assert hint in capsys.readouterr().err


def test_an_existing_output_is_not_overwritten(tiny_run, store_root, tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(ConfigError, match="overwrite=true"):
        segtune.export(
            tiny_run.run_id, *SCENES, f"tracking.root='{store_root}'", output=tmp_path / "x"
        )
    with pytest.raises(ConfigError, match="no earlier export"):
        segtune.export(
            tiny_run.run_id,
            *SCENES,
            f"tracking.root='{store_root}'",
            output=tmp_path / "x",
            overwrite=True,
        )
    assert (tmp_path / "x").is_dir()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name",
    [
        *("Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus", "UPerNet", "Linknet"),
        pytest.param("PSPNet", marks=pytest.mark.ci),
    ],
)
def test_every_convolutional_architecture_is_exported_for_any_size(name, tmp_path):
    torch.manual_seed(0)
    model = build({"architecture": name, "encoder": "resnet18"}, 5).eval()
    assert to_onnx(model, tmp_path / "m.onnx", (96, 128))
    runtime = Runtime(tmp_path / "m.onnx")
    for shape in ((1, 3, 96, 128), (2, 3, 70, 110)):
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        with torch.inference_mode():
            expected = model(torch.from_numpy(images)).argmax(1).numpy()
        assert np.mean(runtime.masks(images) == expected) > 0.999
