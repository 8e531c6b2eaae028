"""The tasks that segtune trains models for, and how they differ."""
