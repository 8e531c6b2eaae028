"""Serve a segmenter over HTTP: images and jobs in, regions, masks and overlays out."""
