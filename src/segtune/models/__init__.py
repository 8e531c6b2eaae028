"""Architectures, losses, optimisers, and segmenters on disk."""
