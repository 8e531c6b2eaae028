"""Datasets: where they come from, decoding, augmentation, batches."""
