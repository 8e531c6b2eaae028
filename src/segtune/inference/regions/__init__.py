"""Regions of a segmented image: finding, drawing and writing them."""
