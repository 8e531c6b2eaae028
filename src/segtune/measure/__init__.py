"""Metrics, statistics, and the evidence that all reported figures come from."""
