"""Evidence of a model on a split, label issues, checked exports."""
