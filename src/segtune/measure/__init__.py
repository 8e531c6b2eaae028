"""What every number means, for all rooms above."""
