"""Memory that a step frees stays for the next step, and is given back after the last."""

import platform
import subprocess
import sys

import pytest

from segtune.runtime import memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's mallopt")

MEASURE = """
import resource
import psutil, torch
from segtune.runtime.memory import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.zeros(64 * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

@kept_memory()
def kept():
    for _ in range(5):  # blocks find their place between small ones
        faults()
    return faults(), psutil.Process().memory_info().rss

outside = faults()
inside, held = kept()
print(outside, inside, held - psutil.Process().memory_info().rss)
"""


@glibc
def test_large_blocks_are_mapped_once_and_given_back_at_the_end():
    process = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, timeout=120
    )
    outside, inside, given_back = map(int, process.stdout.split())
    assert inside < outside / 100
    assert given_back > 60 * 2**20


def test_another_allocator_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", None)  # would fail if called
    with memory.kept_memory():
        pass
