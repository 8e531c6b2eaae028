"""Mutated annotation files are read right or refused with one message; none crashes or hangs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.mutated import SETS, changes_one_shape

ROOT = Path(__file__).parents[2]
GIGABYTE = 10**9


def try_samples(start: int, count: int) -> dict:
    """What came of some samples, in a process of their own, which may crash or hang."""
    words = [
        sys.executable,
        "-W",
        "error::RuntimeWarning",
        "-m",
        "tests.data.mutated",
        str(start),
        str(count),
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def assert_read_or_refused(facts: dict) -> None:
    assert facts["faults"] == []
    assert facts["peak_bytes"] < GIGABYTE
    assert facts["read"].keys() | facts["refused"].keys() == SETS.keys()
    assert len(facts["read"]) > len(SETS) // 2 < len(facts["refused"])


def test_500_mutated_files_are_read_right_or_refused():
    assert_read_or_refused(try_samples(0, 500))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(500, 10_000, 1_900))
def test_10_000_mutated_files_are_read_right_or_refused(start):
    assert_read_or_refused(try_samples(start, 1_900))


def test_two_changed_shapes_are_not_taken_for_one():
    before = {"a.png": np.array([["sky", "car", "tree", "road"]])}
    one = {"a.png": np.array([["sky", "sky", "tree", "car"]])}
    two = {"a.png": np.array([["car", "sky", "sky", "tree"]])}
    assert changes_one_shape(before, before)
    assert changes_one_shape(before, one)
    assert not changes_one_shape(before, two)
