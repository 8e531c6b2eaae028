"""The files of a dataset: its image/mask pairs, splits, downloads and archives."""
