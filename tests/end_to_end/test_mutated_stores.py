"""Mutated files of a store give typed errors, run no code, do not hang and take no memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KINDS = 7


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("start", "count"),
    [
        pytest.param(0, 20 * KINDS, marks=pytest.mark.ci),
        *((start, 500 * KINDS) for start in range(0, 2000 * KINDS, 500 * KINDS)),
    ],
)
def test_two_thousand_mutated_files_of_each_kind_give_typed_errors(start, count):
    words = [sys.executable, "-m", "tests.end_to_end.mutated_stores", str(start), str(count)]
    root = Path(__file__).parents[2]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1700, cwd=root)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["faults"] == [] and facts["peak_bytes"] < 2e9 and facts["slowest_seconds"] < 10
    assert {*facts["read"], *facts["refused"]} == set(facts["kinds"])
    assert len(facts["kinds"]) == KINDS
    read, refused = sum(facts["read"].values()), sum(facts["refused"].values())
    assert read + refused == count and refused > count / 3
