"""A Hydra sweeper that runs the trials of any application with segtune's sweep engine.

Hydra imports these modules in every application of the environment: they import nothing heavy,
and their dataclasses need annotations that are types, not text.
"""
