"""Measure how fast something is on a machine that may do other work meanwhile."""

import math
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

Key = TypeVar("Key")


def call_seconds(action: Callable[[], object], device: torch.device) -> float:
    """Time one call, in seconds, until the device has finished its work."""
    started = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def fastest(measure: Callable[[], float], calls: int = 1, seconds: float = 0.0) -> float:
    """Repeat a measurement, and return its lowest value; the first call only warms up.

    Args:
        calls: the lowest number of calls that count.
        seconds: time for which further calls follow.
    """
    measure()
    values: list[float] = []
    end = time.perf_counter() + seconds
    while len(values) < calls or time.perf_counter() < end:
        values.append(measure())
    return min(values)


def fastest_in_turns(
    measures: Mapping[Key, Callable[[], float]],
    rounds: int,
    *,
    hopeless: float = math.inf,
    max_seconds: float = math.inf,
    pause: float = 0.0,
) -> dict[Key, float]:
    """Measure candidates in turns, and return the lowest value of each.

    In turns, other work on the machine slows all candidates alike.

    Args:
        hopeless: a candidate that takes this many times as long as the best gets no further turn.
        max_seconds: no round begins after this time.
        pause: seconds before each turn, so that the threads of the last candidate come to rest.
    """
    lowest = dict.fromkeys(measures, math.inf)
    end = time.perf_counter() + max_seconds
    for _ in range(rounds):
        for key, measure in measures.items():
            if math.isinf(lowest[key]) or lowest[key] <= hopeless * min(lowest.values()):
                time.sleep(pause)
                lowest[key] = min(lowest[key], measure())
        if time.perf_counter() > end:
            break
    return lowest
