"""Sweeps: a search space, a shared study, workers that pull trials."""
