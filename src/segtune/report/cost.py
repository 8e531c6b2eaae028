"""The cost of a candidate, measured once for each architecture and size."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

_SAME = ("params_m", "gflops", "size_mb")  # equal for models of one architecture and size


def shared_latency(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float] | None]:
    """Return the latency of each candidate, over all candidates that do the same computation.

    Candidates that differ only in training take equally long: differences between their latencies
    are noise of the machine. They share the median.

    Args:
        rows: candidates of the facts, with `cost` and `device`.

    Returns:
        `median`, `low` and `high` in ms, and `runs`, the number of measurements; None for a
        candidate without a latency.
    """
    measured: dict[tuple[object, ...], list[float]] = {}
    for row in rows:
        if "latency_ms" in row["cost"]:
            measured.setdefault(_architecture(row), []).append(row["cost"]["latency_ms"])
    shared = []
    for row in rows:
        values = measured.get(_architecture(row)) if "latency_ms" in row["cost"] else None
        shared.append(_spread(values) if values else None)
    return shared


def _architecture(row: Mapping[str, Any]) -> tuple[object, ...]:
    """Return a key that is equal for candidates of one architecture, size and device."""
    known = [row["cost"].get(key) for key in _SAME]
    # without any of the figures, nothing shows that two candidates compute the same
    identity = row["name"] if known == [None] * len(_SAME) else None
    return (row.get("template"), row["device"], identity, *known)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "runs": len(values),
    }
