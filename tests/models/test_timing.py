"""Timings: the lowest of several values, in turns."""

import pytest
import torch

from segtune.models.timing import call_seconds, fastest, fastest_in_turns


def test_the_first_call_warms_up_and_the_lowest_of_the_others_counts():
    values = iter([1.0, 5.0, 3.0, 4.0])
    assert fastest(lambda: next(values), calls=3) == 3.0


def test_a_measurement_goes_on_for_its_seconds(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("segtune.models.timing.time.perf_counter", lambda: next(clock))
    calls = []
    fastest(lambda: calls.append(1) or 1.0, seconds=5)
    assert len(calls) == 1 + 5


def test_a_hopeless_candidate_gets_one_turn():
    turns = []

    def measure(name: str, seconds: float) -> float:
        turns.append(name)
        return seconds

    measures = {"a": lambda: measure("a", 1.0), "b": lambda: measure("b", 9.0)}
    assert fastest_in_turns(measures, 3, hopeless=6.0) == {"a": 1.0, "b": 9.0}
    assert turns == ["a", "b", "a", "a"]


def test_the_time_of_a_call_is_in_seconds(monkeypatch):
    clock = iter([10.0, 12.5])
    monkeypatch.setattr("segtune.models.timing.time.perf_counter", lambda: next(clock))
    assert call_seconds(lambda: None, torch.device("cpu")) == pytest.approx(2.5)
