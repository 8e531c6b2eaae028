"""The probe measures once, keeps its answer, and obeys an override without measuring."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

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


def test_a_gain_within_the_noise_keeps_plain_fp32(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_time_step", lambda m, s, st, d, how, most: 0.97 if how.bf16 else 1.0)
    assert fastest_format(make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json") == StepFormat(False, False)


def test_a_clear_gain_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_time_step", lambda m, s, st, d, how, most: 0.5 if how == StepFormat(True, True) else 1)
    assert fastest_format(make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json") == StepFormat(True, True)


def test_an_override_is_obeyed_without_measuring(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_time_step", lambda *a: pytest.fail("measured"))
    chosen = fastest_format(make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json", bf16=False, channels_last=True)
    assert chosen == StepFormat(False, True)


def test_a_hopeless_format_is_given_up_after_one_counted_step(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(probe.time, "perf_counter", lambda: float(next(clock)))
    plain = StepFormat(False, False)
    assert probe._time_step(make(), (2, 3, 32, 32), 4, CPU, plain, most=0.5) == 1.0
    assert next(clock) == 4  # two steps were started and ended
    assert probe._time_step(make(), (2, 3, 32, 32), 4, CPU, plain, most=2.0) == 1.0
    assert next(clock) == 13  # four


def test_trials_that_start_together_measure_once(tmp_path, monkeypatch):
    measured = []

    def slowly(*about):
        measured.append(about)
        time.sleep(0.2)  # long enough for the others to ask meanwhile
        return {"bf16": False, "channels_last": True}

    monkeypatch.setattr(probe, "_measured", slowly)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(fastest_format, make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json") for _ in range(4)]
        assert {a.result() for a in asked} == {StepFormat(False, True)}
    assert len(measured) == 1
