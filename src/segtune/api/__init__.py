"""The functions that Python users call; the command line calls the same ones."""
