"""The probe measures once, keeps its answer, and obeys an override without measuring."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from segtune.config.schema import AugmentConfig
from segtune.data.batches.datamodule import TrainViews
from segtune.data.batches.decoded import Decoded
from segtune.data.batches.transforms import Augment
from segtune.models import probe
from segtune.models.build import build
from segtune.models.probe import StepFormat, fastest_format

CPU = torch.device("cpu")


def make():
    return build({"architecture": "Swift", "encoder": "narrow_resnet", "width": 16}, 3)


def test_the_answer_is_kept_and_not_measured_again(tmp_path, monkeypatch):
    keep = tmp_path / "deep" / "formats.json"
    first = fastest_format(make, (2, 3, 32, 32), 4, CPU, keep)
    assert len(next(iter(json.loads(keep.read_text()).values()))["measured"]) == 4
    monkeypatch.setattr(probe, "_time_step", lambda *a: pytest.fail("measured again"))
    assert fastest_format(make, (2, 3, 32, 32), 4, CPU, keep) == first


@pytest.mark.parametrize("form", probe._CANDIDATES, ids=str)
def test_steps_are_timed_on_batches_as_the_data_module_gives_them(form):
    image, mask = np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48), np.uint8)
    split = Decoded(("a", "b"), [image] * 2, [mask] * 2, "", np.ones((2, 1), np.int64))
    views = TrainViews(split, Augment(AugmentConfig(), (32, 48), 1), 0)
    trained = views.__getitems__([(0, 0, 0), (0, 1, 0)])["image"]
    timed = []
    model = make()
    model.register_forward_pre_hook(lambda _, inputs: timed.append(inputs[0]))
    probe._time_step(model, (2, 3, 32, 48), 4, CPU, form)
    for batch in timed:
        assert (batch.stride(), batch.shape, batch.dtype) == (
            trained.stride(),
            trained.shape,
            trained.dtype,
        )


def test_a_gain_within_the_noise_keeps_plain_fp32(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_time_step", lambda m, s, st, d, how: 0.97 if how.bf16 else 1.0)
    assert fastest_format(make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json") == StepFormat(
        False, False
    )


def test_a_clear_gain_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(
        probe, "_time_step", lambda m, s, st, d, how: 0.5 if how == StepFormat(True, True) else 1
    )
    assert fastest_format(make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json") == StepFormat(
        True, True
    )


def test_an_override_is_obeyed_without_measuring(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_time_step", lambda *a: pytest.fail("measured"))
    chosen = fastest_format(
        make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json", bf16=False, channels_last=True
    )
    assert chosen == StepFormat(False, True)


def test_formats_are_timed_in_turn_and_a_hopeless_one_once(monkeypatch):
    asked = []

    def step(model, shape, stride, device, how):
        asked.append(how)
        noise = 3.0 if len(asked) == 2 else 1.0  # other work, at the first sight of channels_last
        return noise * (50.0 if how.bf16 else 0.7 if how.channels_last else 1.0)

    monkeypatch.setattr(probe, "_time_step", step)
    plain, last, halved, both = probe._CANDIDATES
    found = probe._measured(make(), (2, 3, 32, 32), 4, CPU, list(probe._CANDIDATES))
    assert (found["bf16"], found["channels_last"]) == (False, True)
    assert asked == [plain, last, halved, both] + 3 * [plain, last]


def test_trials_that_start_together_measure_once(tmp_path, monkeypatch):
    measured = []

    def slowly(*about):
        measured.append(about)
        time.sleep(0.2)  # long enough for the others to ask meanwhile
        return {"bf16": False, "channels_last": True}

    monkeypatch.setattr(probe, "_measured", slowly)
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(fastest_format, make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json")
            for _ in range(4)
        ]
        assert {a.result() for a in asked} == {StepFormat(False, True)}
    assert len(measured) == 1
