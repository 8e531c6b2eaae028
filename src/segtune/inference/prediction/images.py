"""The images of a prediction: decoded ahead of the model, written behind it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.data.reading.images import read_image
from segtune.data.reading.rasters import page_count
from segtune.errors import DataError
from segtune.inference.media.georeference import Georeference, read_georeference
from segtune.inference.media.inputs import Input
from segtune.inference.prediction.context import PredictionContext
from segtune.inference.prediction.pipeline import Behind, mapped
from segtune.inference.prediction.rasters import large_size, segment_large
from segtune.inference.regions.writers import WrittenImage
from segtune.inference.segmenter import Segmentation

_MASK = ".mask.tif"  # mask of a large image, until the formats are written

Row = dict[str, Any]
"""An image's entry in regions.json."""

Decoded = tuple[Input, NDArray[np.uint8] | tuple[int, int] | DataError, Georeference | None]
"""An input with its pixels, or its size if it is too large for memory, or the error in it."""

OnImage = Callable[[tuple[Input, Row | DataError]], None]
"""Called with each image and its row, or with the error in it."""


class ImagePrediction:
    """Segment images and write their outputs."""

    def __init__(self, context: PredictionContext) -> None:
        self.context = context
        self._warned_sizes: set[tuple[int, int]] = set()
        self._warned_of_pages = False

    def run(self, inputs: Sequence[Input], on_image: OnImage) -> None:
        """Segment all images; `on_image` is called for each one, in order, in this thread."""
        options, segmenter = self.context.options, self.context.segmenter
        with Behind(on_image) as behind:
            for item, pixels, georeference in mapped(self._decode, inputs):
                self.context.check_stop()
                if isinstance(pixels, DataError):
                    behind.submit(lambda *outcome: outcome, item, pixels)
                    continue
                self._warn_of_pages(item)
                self._warn_of_scale(item, _size(pixels), georeference)
                if isinstance(pixels, tuple):
                    behind.submit(self._segment_large, item, georeference)
                    continue
                metres = segmenter.pixel_metres(item.path, georeference)
                segmentation = segmenter.segment(
                    pixels, tiling=options.tiling, tta=options.tta, metres=metres
                )
                behind.submit(self._write, item, segmentation, georeference)

    def _decode(self, item: Input) -> Decoded:
        options, segmenter = self.context.options, self.context.segmenter
        try:
            reading = segmenter.reading
            pixels = large_size(item.path, reading) or read_image(
                item.path, options.max_pixels, reading=reading
            )
            georeference = read_georeference(item.path)
        except DataError as error:
            return item, error, None
        try:
            if options.tiling is None:  # raises if the image is too coarse for the model
                segmenter.scale.input_size(
                    _size(pixels), segmenter.pixel_metres(item.path, georeference)
                )
        except DataError as error:
            return item, DataError(f"'{item.name}': {error}"), None
        return item, pixels, georeference

    def _warn_of_pages(self, item: Input) -> None:
        """Warn of the first image with several pages, where the model states no page."""
        if self._warned_of_pages or self.context.segmenter.reading.page is not None:
            return
        pages = page_count(item.path)
        if pages > 1:
            self._warned_of_pages = True  # once for a folder of stacks
            self.context.say(
                f"{item.name}: only the first of its {pages} pages is segmented. Write each page "
                "to a file of its own to segment all."
            )

    def _warn_of_scale(
        self, item: Input, size: tuple[int, int], georeference: Georeference | None
    ) -> None:
        """Warn of a map that is shrunk to a small picture because its resolution is unknown."""
        if georeference is None or self.context.options.tiling or size in self._warned_sizes:
            return
        scale = self.context.segmenter.scale
        if georeference.metres is not None and scale.metres is not None:
            return
        input_size = scale.input_size(size)
        if 4 * min(input_size) < min(size):
            self._warned_sizes.add(size)  # once for a folder of equal tiles
            self.context.say(
                f"{item.name}: {size[1]} x {size[0]} pixels are shrunk to "
                f"{input_size[1]} x {input_size[0]}, the size of the training images, because "
                "their resolution is unknown. tile=512 keeps the pixels as they are."
            )

    def _write(
        self, item: Input, segmentation: Segmentation, georeference: Georeference | None
    ) -> tuple[Input, Row | DataError]:
        context, writer = self.context, self.context.writer
        try:
            regions = context.find_regions(segmentation)
        except DataError as error:
            return item, error
        image = WrittenImage(item.name, item.output_stem, writer.classes, georeference)
        writer.image(image, segmentation, regions)
        rows = [r.to_json(writer.has_polygons) for r in regions]
        row = _row(item, segmentation.mask.shape, rows)
        edited = context.workflow.edit(segmentation, regions) if context.workflow else None
        if edited:
            writer.edited(item.output_stem, edited.picture)
            row["facts"] = edited.facts
        return item, row

    def _segment_large(
        self, item: Input, georeference: Georeference | None
    ) -> tuple[Input, Row | DataError]:
        """Segment an image in windows: one region per class."""
        context, writer = self.context, self.context.writer
        unsupported = self._unsupported()
        if unsupported:
            return item, DataError(
                f"'{item.name}' is too large for memory and is read in windows. This supports "
                "masks, overlays, regions, coco and geojson by concept; it does not support "
                f"{', '.join(unsupported)}."
            )
        mask: Path = writer.output / _MASK
        image = WrittenImage(item.name, item.output_stem, writer.classes, georeference)
        try:
            size, regions, large = segment_large(
                context.segmenter, item.path, mask, context.options, georeference
            )
            writer.large(image, large)
        except DataError as error:
            return item, error
        finally:
            mask.unlink(missing_ok=True)
        return item, _row(item, size, [r.to_json(polygons=False) for r in regions])

    def _unsupported(self) -> list[str]:
        """Options that need the whole image in memory."""
        options = self.context.options
        chosen = self.context.writer.chosen
        unsupported = [name for name in chosen if not chosen[name].format.takes_large]
        if options.split != "concept":
            unsupported.append("components")
        if self.context.workflow is not None:
            unsupported.append("a workflow's steps")
        return unsupported


def _size(pixels: NDArray[np.uint8] | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of pixels, or of an image that is too large for memory."""
    return pixels if isinstance(pixels, tuple) else (pixels.shape[0], pixels.shape[1])


def _row(item: Input, size: Sequence[int], regions: list[dict[str, Any]]) -> Row:
    return {
        "file": item.name,
        "place": item.output_stem.as_posix(),
        "width": size[1],
        "height": size[0],
        "regions": regions,
    }
