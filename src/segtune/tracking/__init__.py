"""Runs, registered models and the promotion gate, stored by MLflow."""
