"""A name that segtune 0.1.0 documented for exported graphs."""

from segtune.inference.engines.graphs import Runtime

__all__ = ["Runtime"]
