"""Affinity and quotas of containers limit the number of processors."""

import os
import re
from pathlib import Path

import pytest

from segtune.runtime import processors
from segtune.runtime.processors import available_processors

EIGHT = set(range(8))
# the lines of /proc/self/cgroup, and the files under /sys/fs/cgroup
GROUPS = {
    "no control groups": (8, None, {}),
    "version 2, no quota": (8, "0::/", {"cpu.max": "max 100000"}),
    "version 2": (2, "0::/", {"cpu.max": "200000 100000"}),
    "a part of a processor": (2, "0::/", {"cpu.max": "150000 100000"}),
    "far less than one": (1, "0::/", {"cpu.max": "5000 100000"}),
    "more than there are": (8, "0::/", {"cpu.max": "1600000 100000"}),
    "the smallest of all groups around": (
        3,
        "0::/a/b",
        {"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000", "cpu.max": "max 100000"},
    ),
    "a group that the container does not see": (
        2,
        "0::/docker/0a1b",
        {"cpu.max": "200000 100000"},
    ),
    "version 1": (
        2,
        "4:memory:/x\n3:cpu,cpuacct:/x",
        {"cpu,cpuacct/x/cpu.cfs_quota_us": "200000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
    ),
    "version 1, no quota": (
        8,
        "1:cpu:/",
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
    ),
    "an unreadable quota": (8, "0::/", {"cpu.max": "?"}),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_quota_limits_the_processors(tmp_path, monkeypatch, name):
    expected, groups, files = GROUPS[name]
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    for path, content in files.items():
        file = tmp_path / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    monkeypatch.setattr(processors, "_ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: EIGHT)
    assert available_processors() == expected


def test_the_affinity_limits_the_processors(tmp_path, monkeypatch):
    monkeypatch.setattr(processors, "_ROOT", tmp_path)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_processors() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_every_pool_and_count_asks_for_the_available_processors():
    room = Path(processors.__file__).parents[1]
    # they describe the machine, in the record of a run and in the key of a cache
    described = {"runtime/processors.py", "tracking/provenance.py", "inference/engines/engine.py"}
    asking = re.compile(r"os\.cpu_count\(|ThreadPoolExecutor\(\)|ProcessPoolExecutor\(\)|Pool\(\)")
    found = {
        path.relative_to(room).as_posix()
        for path in room.rglob("*.py")
        if asking.search(path.read_text(encoding="utf-8"))
    }
    assert found == described
