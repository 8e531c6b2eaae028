"""The plugins that the user gave to this process, in the order of loading."""

GIVEN: dict[str, None] = {}
"""Path of a file, or name of a module."""
