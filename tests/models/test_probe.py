"""The fastest step format is measured once and kept; an override needs no measurement."""

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


def test_the_result_is_kept_and_not_measured_again(tmp_path, monkeypatch):
    keep = tmp_path / "deep" / "formats.json"
    first = fastest_format(make, (2, 3, 32, 32), 4, CPU, keep)
    assert len(next(iter(json.loads(keep.read_text()).values()))["measured"]) == 4
    monkeypatch.setattr(probe, "_time_step", lambda *a: pytest.fail("measured again"))
    assert fastest_format(make, (2, 3, 32, 32), 4, CPU, keep) == first


@pytest.mark.parametrize("step_format", probe._CANDIDATES, ids=str)
def test_steps_are_timed_on_batches_like_those_of_the_data_module(step_format):
    image, mask = np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48), np.uint8)
    split = Decoded(("a", "b"), [image] * 2, [mask] * 2, "", np.ones((2, 1), np.int64))
    views = TrainViews(split, Augment(AugmentConfig(), (32, 48), 1), 0)
    trained = views.__getitems__([(0, 0, 0), (0, 1, 0)])["image"]
    timed = []
    model = make()
    model.register_forward_pre_hook(lambda _, inputs: timed.append(inputs[0]))
    probe._time_step(model, probe._Step((2, 3, 32, 48), 4, CPU), step_format)
    for batch in timed:
        assert batch.stride() == trained.stride()
        assert (batch.shape, batch.dtype) == (trained.shape, trained.dtype)


def test_a_gain_within_the_noise_keeps_plain_fp32(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_time_step", lambda *step: 0.97 if step[-1].bf16 else 1.0)
    chosen = fastest_format(make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json")
    assert chosen == StepFormat(False, False)


def test_a_clear_gain_is_taken(tmp_path, monkeypatch):
    fast = StepFormat(True, True)
    monkeypatch.setattr(probe, "_time_step", lambda *step: 0.5 if step[-1] == fast else 1.0)
    assert fastest_format(make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json") == fast


def test_an_override_needs_no_measurement(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_time_step", lambda *a: pytest.fail("measured"))
    chosen = fastest_format(
        make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json", bf16=False, channels_last=True
    )
    assert chosen == StepFormat(False, True)


def test_formats_are_timed_in_turns_and_a_far_slower_one_once(monkeypatch):
    timed = []

    def time_step(model, step, step_format):
        timed.append(step_format)
        noise = 3.0 if len(timed) == 2 else 1.0  # other work during the first step of channels_last
        if step_format.bf16:
            return noise * 50.0
        return noise * (0.7 if step_format.channels_last else 1.0)

    monkeypatch.setattr(probe, "_time_step", time_step)
    plain, last, *halved = probe._CANDIDATES
    step = probe._Step((2, 3, 32, 32), 4, CPU)
    result = probe._measure(make(), step, list(probe._CANDIDATES))
    assert (result["bf16"], result["channels_last"]) == (False, True)
    assert timed == [plain, last, *halved] + 3 * [plain, last]


def test_trials_that_start_together_measure_once(tmp_path, monkeypatch):
    measured = []

    def slowly(*step):
        measured.append(step)
        time.sleep(0.2)  # long enough for the others to ask meanwhile
        return {"bf16": False, "channels_last": True}

    monkeypatch.setattr(probe, "_measure", slowly)
    with ThreadPoolExecutor(4) as pool:
        place = make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json"
        trials = [pool.submit(fastest_format, *place) for _ in range(4)]
        assert {trial.result() for trial in trials} == {StepFormat(False, True)}
    assert len(measured) == 1


def test_results_are_added_to_those_of_the_file(tmp_path):
    path = tmp_path / "new" / "results.json"
    assert probe.read_results(path) == {}
    probe.add_result(path, "a", {"ms": 1})
    probe.add_result(path, "b", {"ms": 2})
    assert probe.read_results(path) == {"a": {"ms": 1}, "b": {"ms": 2}}
    path.write_text("{")
    assert probe.read_results(path) == {}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("x")
    probe.add_result(tmp_path / "file" / "results.json", "a", {"ms": 1})
