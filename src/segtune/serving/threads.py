"""Threads that compute with torch, without more OpenMP threads than there are processors."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

from segtune.runtime.processors import available_processors

T = TypeVar("T")


@cache
def compute_threads() -> int:
    """The threads that torch may use here; as they were before a thread of the server chose."""
    return min(torch.get_num_threads(), available_processors())


def use_threads(number: int) -> None:
    """Let torch compute with this number of threads in the thread that calls."""
    torch.get_num_threads()  # the first look gives a thread the number that another one set last
    torch.set_num_threads(number)


def in_own_thread(work: Callable[[], T]) -> T:
    """Run work in a thread that ends with it.

    OpenMP keeps a team of threads for each thread that computes. Once all teams together have more
    threads than there are processors, OpenMP lets threads sleep between any two layers, which
    doubles the time of a small network. The team of a thread that has ended is given up.
    """
    with ThreadPoolExecutor(1, "own", use_threads, (compute_threads(),)) as pool:
        return pool.submit(work).result()
