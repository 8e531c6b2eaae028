"""Workflows: a segmenter, labelers and edits saved as one model."""
