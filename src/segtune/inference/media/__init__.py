"""Image and video files in, frames out; georeferences."""
