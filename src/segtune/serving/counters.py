"""Counters of a server, in the text format of Prometheus (`/metrics`)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds


class Counters:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "segtune_requests",
            "Requests by route and status.",
            ("route", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "segtune_stage_seconds",
            "Seconds of an image in each stage: read, decode, segment, encode.",
            ("stage",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.in_progress = Gauge(
            "segtune_requests_in_progress",
            "Requests that wait or are computed.",
            registry=self._registry,
        )
        self.replaced = Counter(
            "segtune_models_replaced", "New versions that were taken.", registry=self._registry
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of an image."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds.labels(name).observe(time.perf_counter() - start)

    def text(self) -> bytes:
        """All counters in the text format of Prometheus."""
        return generate_latest(self._registry)
