"""From files to arrays: images, masks, rasters."""
