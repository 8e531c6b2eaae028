"""The mean of logits, and of weights, against what NumPy and a single model give."""

import copy
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from segtune.classes import ClassTable
from segtune.config.schema import TuningConfig
from segtune.data.batches.decoded import Decoded
from segtune.errors import DataError
from segtune.evaluation.merging import Member, averaged, ensemble, ensemble_section
from segtune.inference.description import check_description
from segtune.inference.segmenter import Segmenter
from segtune.models.build import build

SWIFT = {"architecture": "Swift", "encoder": "narrow_resnet", "width": 16, "depth": 1}
CLASSES = ClassTable.parse(["road", "car", "tree"])
IMAGE = torch.randint(0, 256, (2, 3, 45, 64), dtype=torch.uint8)
TRAIN = Decoded(
    ["a", "b", "c"],
    list(np.random.default_rng(0).integers(0, 256, (3, 40, 64, 3)).astype(np.uint8)),
    [np.zeros((40, 64), np.uint8)] * 3,
    "f",
)
TEMPLATE = {"name": "swift", "model": SWIFT}


def member(seed: int) -> Member:
    torch.manual_seed(seed)
    model = build(SWIFT, 3).eval()
    segmenter = Segmenter(model, CLASSES, [40], {})
    segmenter.describe(TEMPLATE, {"name": "d"}, {})
    config = SimpleNamespace(tuning=TuningConfig())
    return Member(None, config, segmenter)  # type: ignore[arg-type]  # no run is needed here


@torch.inference_mode()
def test_an_ensemble_gives_the_mean_logits_and_survives_saving(tmp_path):
    members = [member(seed) for seed in range(3)]
    merged = ensemble(members)
    merged.describe({**TEMPLATE, "model": ensemble_section(members)}, {"name": "d"}, {})
    each = torch.stack([m.segmenter.model(IMAGE) for m in members])
    torch.testing.assert_close(merged.model(IMAGE), each.mean(0), atol=1e-4, rtol=1e-4)
    merged.save(tmp_path / "m")
    loaded = Segmenter.load(tmp_path / "m")
    torch.testing.assert_close(loaded.model(IMAGE), merged.model(IMAGE))
    size = sum(p.numel() for p in merged.model.parameters())
    assert size == 3 * sum(p.numel() for p in members[0].segmenter.model.parameters())


@torch.inference_mode()
def test_the_mean_of_equal_weights_is_the_model_itself_with_statistics_of_the_images():
    first = member(1)
    twin = replace(first, segmenter=copy.deepcopy(first.segmenter))
    merged = averaged([first, twin], TRAIN)
    for (name, mine), other in zip(
        merged.model.named_parameters(), first.segmenter.model.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, other, msg=name)
    norm = next(m for m in merged.model.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.running_mean.abs().sum() > 0  # of an untrained model it is 0
    assert not merged.model.training
    state = averaged([first, member(2)], TRAIN).model.state_dict()
    key = next(k for k in state if k.endswith("weight"))
    both = [m.segmenter.model.state_dict()[key] for m in (first, member(2))]
    torch.testing.assert_close(state[key], (both[0] + both[1]) / 2)


@pytest.mark.parametrize("key", ["width", "depth"])
def test_a_description_cannot_ask_for_members_larger_than_its_weights(key):
    merged = ensemble([member(0), member(1)])
    merged.describe({**TEMPLATE, "model": ensemble_section([member(0)] * 2)}, {}, {})
    info = json.loads(json.dumps(merged.info))  # as it is read from a folder
    info["model"]["member"][key] = 1 << 20
    with pytest.raises(DataError, match=f"{key}=1048576"):
        check_description("segmenter", info, merged.model.state_dict(), "m")
