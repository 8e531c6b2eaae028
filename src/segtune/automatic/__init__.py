"""From a folder to a promoted segmenter in a given time: `segtune auto`."""
