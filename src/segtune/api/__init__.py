"""Functions for Python users; the command line calls the same ones."""
