"""The prediction job: many images, videos and rasters to files, resumable."""
