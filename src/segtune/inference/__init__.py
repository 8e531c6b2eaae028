"""Using a segmenter: images and videos in, masks and regions out."""
