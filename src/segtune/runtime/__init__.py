"""Process-level helpers: retries, progress, signals, memory, locks, strict JSON."""
