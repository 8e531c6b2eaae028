"""Files to arrays: images, masks, rasters."""
