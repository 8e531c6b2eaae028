"""Engines: folded batch norms, bf16 and graphs agree with eager fp32; `auto` measures once."""

import copy
import json

import numpy as np
import pytest
import torch

import segtune
from segtune.data.street.scenes import Scene
from segtune.errors import ConfigError
from segtune.inference.engines import graphs
from segtune.inference.engines.bf16 import fold, gains_from_bf16, in_bf16
from segtune.inference.engines.engine import Eager, Fastest, make_engine
from segtune.inference.segmenter import Segmenter
from segtune.models.build import build

TRACED = (pytest.mark.slow, pytest.mark.ci)  # tracing takes twenty seconds


@pytest.fixture
def trained(tiny_run) -> Segmenter:
    return Segmenter.load(tiny_run.segmenter, "cpu")


def scenes(count: int = 3) -> torch.Tensor:
    images = np.stack([Scene(20 + n).render(64, 96).image for n in range(count)])
    return torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "architecture", ["Swift", "Unet", "FPN", "DeepLabV3Plus", "UPerNet", "Linknet"]
)
def test_folding_changes_no_logit(architecture):
    torch.manual_seed(0)
    model = build({"architecture": architecture, "encoder": "resnet18"}, 4)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    model.eval()
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        before = model(image)
        norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
        fold(model.net)
        assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules()) < norms / 2
        assert torch.allclose(
            model(image), before, rtol=1e-3, atol=1e-3 * float(before.abs().max())
        )


@pytest.mark.parametrize(
    "name", ["bf16", pytest.param("onnx", marks=TRACED), pytest.param("openvino", marks=TRACED)]
)
@pytest.mark.parametrize("size", [(64, 96), (130, 190)])
def test_every_engine_agrees_with_eager(trained, name, size):
    with torch.inference_mode():
        expected = Eager(trained.model).decide(scenes(), size)
        found = make_engine(trained.model, name, (64, 96)).decide(scenes(), size)
    for (ids, sure), (own_ids, own_sure) in zip(found, expected, strict=True):
        assert ids.dtype == np.uint8 and ids.shape == size and np.mean(ids == own_ids) > 0.97
        assert np.abs(sure - own_sure).mean() < 0.01


def test_the_fastest_is_measured_once_and_agrees_with_eager(trained, tmp_path):
    lines, cache = [], tmp_path / "engines.json"
    engine = Fastest(trained.model, cache=cache, say=lines.append)
    with torch.inference_mode():
        first = engine.decide(scenes(), (64, 96))
        results = json.loads(cache.read_text())
        again = Fastest(trained.model, cache=cache, say=lines.append).decide(scenes(), (64, 96))
    assert len(results) == 1 and len(lines) == 1
    row = next(iter(results.values()))
    assert row["engine"] in ("eager", "bf16") and row["agreement"] >= 0.995
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))


def test_a_folder_of_hundreds_of_sizes_is_not_measured_hundreds_of_times(trained, tmp_path):
    lines = []
    engine = Fastest(trained.model, cache=tmp_path / "engines.json", say=lines.append)
    with torch.inference_mode():
        for n in range(12):
            engine.coarse(torch.zeros(1, 3, 64 + n, 96 - n, dtype=torch.uint8))
        engine.coarse(torch.zeros(1, 3, 256, 256, dtype=torch.uint8))
    assert len(lines) == 2


@pytest.mark.slow
@pytest.mark.ci
def test_a_graph_of_one_size_computes_that_size_and_torch_the_others(
    trained, tmp_path, monkeypatch
):
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path))  # no graph of these weights is there yet

    def of_one_size(model, path, size, confidence):
        graph = graphs.Graph(copy.deepcopy(model), confidence).eval()
        graphs._trace(graph, torch.zeros(1, 3, *size, dtype=torch.uint8), path, None)
        return False

    monkeypatch.setattr("segtune.inference.engines.engine.to_onnx", of_one_size)
    engine, other = make_engine(trained.model, "onnx", (64, 96)), scenes().transpose(-1, -2)
    with torch.inference_mode():
        found, expected = (e.decide(scenes(), (64, 96)) for e in (engine, Eager(trained.model)))
        eager = make_engine(trained.model, "bf16" if gains_from_bf16() else "eager", (64, 96))
        turned, halved = engine.decide(other, (96, 64)), eager.decide(other, (96, 64))
    assert len(found) == 3 and all(
        np.mean(a[0] == b[0]) > 0.999 for a, b in zip(found, expected, strict=True)
    )
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(turned, halved, strict=True))


def test_an_engine_with_other_results_is_not_chosen(trained, tmp_path, monkeypatch):
    def other(model):
        changed = in_bf16(model)
        torch.nn.init.zeros_(changed.net.net.head[1].weight)
        return changed

    monkeypatch.setattr("segtune.inference.engines.engine.in_bf16", other)
    monkeypatch.setattr("segtune.inference.engines.engine.gains_from_bf16", lambda: True)
    monkeypatch.setattr("segtune.inference.engines.engine.MARGIN", 1e9)  # however slow
    with torch.inference_mode():
        fastest = Fastest(trained.model, cache=tmp_path / "x.json")
        assert fastest.engine(scenes(), graphs=False).name == "eager"
    (measurement,) = json.loads((tmp_path / "x.json").read_text()).values()
    assert [row["engine"] for row in measurement["measured"]] == ["eager", "bf16"]


@pytest.mark.parametrize(
    ("supported", "ms", "gains"), [(True, 1.0, True), (True, 2.0, False), (False, 1.0, False)]
)
def test_bf16_is_used_only_where_it_is_faster(monkeypatch, supported, ms, gains):
    monkeypatch.setattr(
        torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported, raising=False
    )
    times = {torch.float32: 1.5, torch.bfloat16: ms}
    monkeypatch.setattr(
        "segtune.inference.engines.bf16._fastest_call", lambda layer, image: times[image.dtype]
    )
    assert gains_from_bf16.__wrapped__() is gains


def test_no_graph_is_traced_for_logits_or_another_size(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "segtune.inference.engines.engine.GraphEngine", None
    )  # calling it would fail
    with torch.inference_mode():
        engine = Fastest(trained.model, graphs=True, cache=tmp_path / "engines.json")
        assert engine.logits(scenes()).shape == (3, 10, 64, 96)
        assert engine.decide(scenes(), (100, 150))[0][0].shape == (100, 150)
    row = next(iter(json.loads((tmp_path / "engines.json").read_text()).values()))
    assert {r["engine"] for r in row["measured"]} <= {"eager", "bf16"}


def test_a_loaded_segmenter_computes_in_eager_by_default(tiny_run, store_root):
    image = Scene(20).render(64, 96).image
    exact = segtune.load(tiny_run.segmenter).segment(image)
    assert np.array_equal(
        exact.mask, segtune.load(tiny_run.segmenter, runtime="eager").segment(image).mask
    )
    fast = segtune.load(tiny_run.segmenter, runtime="bf16")
    assert fast.engine.name == "bf16" and np.mean(fast.segment(image).mask == exact.mask) > 0.97
    with pytest.raises(ConfigError, match="did you mean 'openvino'"):
        segtune.load(tiny_run.segmenter, runtime="openvin")


def test_a_runtime_that_is_not_installed_names_the_extra(trained, monkeypatch):
    missing = graphs.ExportFormat(("no_such_library",), 0.999)
    monkeypatch.setitem(graphs.EXPORT_FORMATS, "onnx", missing)
    with pytest.raises(ConfigError, match=r"pip install 'segtune\[export\]'"):
        make_engine(trained.model, "onnx", (64, 96))
