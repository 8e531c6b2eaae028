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
from segtune.inference.prediction.rasters import geojson_of, large_size, segment_large
from segtune.inference.prediction.writing import write_jpeg
from segtune.inference.segmenter import Segmentation

_MASK = ".mask.tif"  # mask of a large image, when only other formats are wanted
_LARGE_FORMATS = ("masks", "overlays", "regions", "coco", "geojson")

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
        writer.picture(item.output_stem, segmentation, georeference)
        writer.shapes(item.output_stem, regions, georeference)
        writer.clarifai_image(item.output_stem, item.name, regions)
        polygons = "regions" in context.options.formats
        row = _row(item, segmentation.mask.shape, [r.to_json(polygons) for r in regions])
        edited = context.workflow.edit(segmentation, regions) if context.workflow else None
        if edited:
            writer.edited(item.output_stem, edited.picture)
            row["facts"] = edited.facts
        return item, row

    def _segment_large(
        self, item: Input, georeference: Georeference | None
    ) -> tuple[Input, Row | DataError]:
        """Segment an image in windows: a GeoTIFF mask, a small overlay, one region per class."""
        context, writer, formats = self.context, self.context.writer, self.context.options.formats
        unsupported = self._unsupported()
        if unsupported:
            return item, DataError(
                f"'{item.name}' is too large for memory and is read in windows. This supports "
                "masks, overlays, regions, coco and geojson by concept; it does not support "
                f"{', '.join(unsupported)}."
            )
        is_mask_wanted = "masks" in formats
        mask: Path = writer.output / _MASK
        if is_mask_wanted:
            mask = writer.path("masks", item.output_stem, ".tif")
        try:
            size, regions, overlay = segment_large(
                context.segmenter, item.path, mask, context.options, georeference
            )
            if "overlays" in formats:
                write_jpeg(writer.path("overlays", item.output_stem, ".jpg"), overlay)
            if "geojson" in formats:
                features = geojson_of(mask, context.segmenter.classes, georeference)
                writer.large_geojson(item.output_stem, features, georeference)
        except DataError as error:
            return item, error
        finally:
            if not is_mask_wanted:
                mask.unlink(missing_ok=True)
        return item, _row(item, size, [r.to_json(polygons=False) for r in regions])

    def _unsupported(self) -> list[str]:
        """Options that need the whole image in memory."""
        options = self.context.options
        unsupported: list[str] = [f for f in options.formats if f not in _LARGE_FORMATS]
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
