"""The probe measures once, keeps its answer, and obeys an override without measuring."""

import json

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
    monkeypatch.setattr(probe, "_time_step", lambda m, s, st, d, how: 0.97 if how.bf16 else 1.0)
    assert fastest_format(make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json") == StepFormat(False, False)


def test_a_clear_gain_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_time_step", lambda m, s, st, d, how: 0.5 if how.bf16 and how.channels_last else 1.0)
    assert fastest_format(make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json") == StepFormat(True, True)


def test_an_override_is_obeyed_without_measuring(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_time_step", lambda *a: pytest.fail("measured"))
    chosen = fastest_format(make, (2, 3, 32, 32), 4, CPU, tmp_path / "f.json", bf16=False, channels_last=True)
    assert chosen == StepFormat(False, True)
