"""Defaults that settings, api functions and the command line share. Imports nothing."""

ROOT = "mlruns"
"""Folder of the default store."""

EXPERIMENT = "segtune"
"""MLflow experiment of runs that name no other."""

MAX_PIXELS = 200_000_000
"""Largest image that is decoded, in pixels, as its header says.

A PNG of 24 KB can claim more pixels than memory holds.
"""
