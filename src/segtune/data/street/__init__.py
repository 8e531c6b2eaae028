"""The built-in dataset: generated street scenes with exact masks."""
