"""The command line: parses words, calls a function of `segtune.api`, prints the result."""
