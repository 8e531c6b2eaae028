"""Runs and registered segmenters, kept by MLflow."""
