"""Where image/mask pairs come from: files, splits, downloads, archives."""
