"""Configs: files and command-line overrides in, checked settings out."""
