"""A name of segtune 0.1.0, which the code in its registered models imports, see `pyfunc_model`."""

from segtune.inference.loading import open_model

__all__ = ["open_model"]
