"""Where progress messages go."""

from collections.abc import Callable

Log = Callable[[str], None]
"""Prints one line: a step of long work, or a warning."""
