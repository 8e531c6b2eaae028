"""Datasets: sources, formats, decoding, checks, augmentation and batches."""
