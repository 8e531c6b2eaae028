"""The command line: parses words, calls a function of `segtune.api`, prints the result."""

from segtune.cli.main import main

__all__ = ["main"]
