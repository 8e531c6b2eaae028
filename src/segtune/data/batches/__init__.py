"""Arrays to training batches: cache, transforms, sampling, data module."""
