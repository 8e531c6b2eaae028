"""The frames of one video, segmented in order, as smoothing needs them."""

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.data.reading.images import resize_image, target_size
from segtune.inference.decisions import decide
from segtune.inference.options import Options
from segtune.inference.segmenter import Segmentation, Segmenter
from segtune.inference.smoothing import Smoother


class FrameSegmenter:
    """Segments the frames of one video, which must come in order.

    Attributes:
        smoother: joins each frame with those before it; None without `smooth`.
    """

    def __init__(self, segmenter: Segmenter, options: Options) -> None:
        self.segmenter, self.options = segmenter, options
        self.smoother = None if options.smooth == "none" else Smoother(options.smooth)

    def segment(self, image: NDArray[np.uint8]) -> Segmentation:
        """Label every pixel of the next frame (H, W, 3)."""
        segmenter, options = self.segmenter, self.options
        if self.smoother is None:
            return segmenter.segment(image, tiling=options.tiling, tta=options.tta)
        size = target_size(image.shape[0], image.shape[1], segmenter.image_size)
        small = resize_image(image, *size)
        logits = segmenter.logits(torch.from_numpy(small).permute(2, 0, 1)[None], size, options.tta)
        with torch.inference_mode():
            logits = self.smoother.step(logits, small)
            mask, confidence = decide(logits, image.shape[:2])[0]
        return Segmentation(image, mask, confidence, segmenter.classes)
