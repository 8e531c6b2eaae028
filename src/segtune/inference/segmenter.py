"""The segmenter: a trained model with everything that inference needs.

It knows nothing of Lightning, Hydra or MLflow.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segtune.classes import ClassTable
from segtune.data.reading.images import read_image, resize_image
from segtune.data.reading.values import Reading
from segtune.inference.averaging import averaged
from segtune.inference.decisions import Decided, decide, decided_strips
from segtune.inference.engines.engine import Eager, make_engine
from segtune.inference.media.georeference import Georeference
from segtune.inference.media.pixel_size import pixel_metres
from segtune.inference.regions.overlay import draw_overlay
from segtune.inference.regions.regions import Region, find_regions
from segtune.inference.saved import Device, FolderModel, SavedModel, default_device, training_info
from segtune.inference.scale import MAX_INPUT_PIXELS, Piece, Scale, at_size, resized
from segtune.inference.tiling import Part, ReadWindow, TileGrid, Tiling, blended, windows_of
from segtune.models.build import build
from segtune.models.segmentation_model import SegmentationModel
from segtune.runtime.log import Log, silent


@dataclass(frozen=True)
class Segmentation:
    """The result for one image.

    Attributes:
        image: the RGB bytes that were segmented, (H, W, 3) uint8.
        mask: class ids, (H, W) uint8.
        confidence: softmax probability of the chosen class, (H, W) float32 in [0, 1].
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    classes: ClassTable

    @cached_property
    def regions(self) -> list[Region]:
        """One region per class in the mask, the largest first."""
        return find_regions(self.mask, self.confidence, self.classes)

    def overlay(self, opacity: float = 0.5) -> NDArray[np.uint8]:
        """Return the image with each class in its colour, (H, W, 3) uint8."""
        return draw_overlay(self.image, self.mask, self.classes, opacity)


class Segmenter(FolderModel):
    """A model, its class table, and the image size that it expects.

    Attributes:
        reading: how the train images were read where their files do not say it: value range, bands
            and page. Other images, except arrays of bytes, are read in the same way.
        scale: the size to which an image is resized; `image_size` is its main part.
        engine: computes the logits: eager PyTorch in fp32, unless `using` chose another engine.
    """

    KIND = "segmenter"

    def __init__(
        self,
        model: SegmentationModel,
        classes: ClassTable,
        image_size: Sequence[int],
        info: Mapping[str, Any],
        device: Device = None,
    ) -> None:
        self.device = default_device(device)
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()
        self.classes, self.image_size, self.info = classes, list(image_size), dict(info)
        self.scale = Scale(tuple(image_size), dict(info.get("dataset", {})).get("metres"))
        self.reading = Reading.of(dict(info.get("dataset", {})))
        self.engine = Eager(self.model)

    def using(
        self,
        runtime: str,
        graphs: bool = False,
        say: Log = silent,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> "Segmenter":
        """Return a segmenter with the same weights that computes with another engine.

        Args:
            runtime: an engine; `auto` measures which engine is fastest here.
            graphs: let `auto` trace graphs, which takes seconds.
            options: of the engine.

        Raises:
            ConfigError: an unknown name or option, or an engine whose libraries are not installed.
        """
        height, width = self.image_size[-1], self.image_size[0]
        other = copy.copy(self)
        other.engine = make_engine(self.model, runtime, (height, width), graphs, say, options)
        return other

    @classmethod
    def _build(cls, saved: SavedModel, device: Device) -> "Segmenter":
        info = saved.info
        classes = ClassTable.parse(info["classes"])
        net = build(info["model"], len(classes)).net
        model = SegmentationModel(net, saved.preprocessing())
        model.load_state_dict(dict(saved.tensors))
        return cls(model, classes, info["image_size"], info, device)

    def _saved(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        return self.model.state_dict(), self.info

    def describe(
        self,
        template: Mapping[str, Any],
        dataset: Mapping[str, Any],
        metrics: Mapping[str, float],
        plugins: Mapping[str, Any] | None = None,
    ) -> None:
        """Set `info`, which `save` writes: how to build the model, and where it comes from.

        Args:
            dataset: the train data; `metres` is the physical size of a pixel at the model's image
                size.
        """
        self.scale = Scale(tuple(self.image_size), dataset.get("metres"))
        self.reading = Reading.of(dataset)
        self.info = {
            **training_info(template, self.model.preprocessing, dataset, metrics, plugins or {}),
            "image_size": self.image_size,
            "classes": self.classes.to_json(),
        }

    def segment(
        self,
        image: Any,
        *,
        tiling: Tiling | None = None,
        tta: str = "none",
        metres: float | None = None,
    ) -> Segmentation:
        """Label every pixel of one image.

        The image is resized to the scale of the training images (see `Scale`). Above
        MAX_INPUT_PIXELS pixels it is segmented in tiles.

        Args:
            image: path, bytes, PIL image, array or tensor; see `read_image`.
            tiling: segment the image in tiles, without resizing it.
            tta: test-time augmentation, a name in `averaging.AVERAGES`.
            metres: physical size of a pixel; by default the file states it (`pixel_metres`). Only
                segmenters whose train images state one physical size use it.

        Raises:
            DataError: not an image.
            ConfigError: an unknown name.
        """
        if metres is None and isinstance(image, str | Path):
            metres = self.pixel_metres(Path(image))
        is_of_bytes = str(getattr(image, "dtype", "")).endswith("uint8")
        pixels = read_image(image, reading=None if is_of_bytes else self.reading)
        size = (pixels.shape[0], pixels.shape[1])
        if tiling is None and self.fits_in_one_piece(size, metres):
            mask, confidence = self.segment_batch([pixels], tta, metres)[0]
            return Segmentation(pixels, mask, confidence, self.classes)
        mask, confidence = np.empty(size, np.uint8), np.empty(size, np.float32)
        for piece in self.pieces(windows_of(pixels), size, tiling, tta, metres):
            bottom, right = piece.top + piece.ids.shape[0], piece.left + piece.ids.shape[1]
            mask[piece.top : bottom, piece.left : right] = piece.ids
            confidence[piece.top : bottom, piece.left : right] = piece.confidence
        return Segmentation(pixels, mask, confidence, self.classes)

    def pixel_metres(self, path: Path, georeference: Georeference | None = None) -> float | None:
        """Return the metres of a pixel of an image file; None where this scale is not in metres."""
        return None if self.scale.metres is None else pixel_metres(path, georeference)

    def fits_in_one_piece(self, size: tuple[int, int], metres: float | None = None) -> bool:
        """Whether an image (height, width) is segmented whole, not in tiles."""
        height, width = self.scale.input_size(size, metres)
        return len(self.image_size) == 2 or height * width <= MAX_INPUT_PIXELS

    def pieces(
        self,
        read: ReadWindow,
        size: tuple[int, int],
        tiling: Tiling | None,
        tta: str = "none",
        metres: float | None = None,
    ) -> Iterator[Piece]:
        """Segment an image (height, width) piece by piece; it need not fit into memory.

        The pieces together are the result of `segment`.
        """
        input_size = size if tiling else self.scale.input_size(size, metres)
        view = resized(read, size, input_size)
        if tiling is None and self.fits_in_one_piece(size, metres):
            logits = self._logits_of_window(view(0, 0, *input_size), tta)
            with torch.inference_mode():
                for rows, ids, confidence in decided_strips(logits, size):
                    yield Piece(rows.start, 0, ids, confidence)
            return
        side = Tiling.tile if len(self.image_size) == 2 else max(Tiling.tile, self.image_size[0])
        yield from at_size(
            self.parts(view, input_size, tiling or Tiling(side), tta), input_size, size
        )

    def parts(
        self, read: ReadWindow, size: tuple[int, int], tiling: Tiling, tta: str = "none"
    ) -> Iterator[Part]:
        """Compute the logits of an image (height, width) of any size in blended tiles."""
        grid = TileGrid(size, tiling, self.model.preprocessing.multiple, len(self.classes))
        return blended(read, grid, lambda window: self._logits_of_window(window, tta))

    def _logits_of_window(self, window: NDArray[np.uint8], tta: str) -> Tensor:
        """Logits (C, h, w) of a part (h, w, 3) of an image."""
        image = torch.from_numpy(np.ascontiguousarray(window)).permute(2, 0, 1)[None]
        return self.logits(image, window.shape[:2], tta)[0]

    def segment_batch(
        self, images: Sequence[NDArray[np.uint8]], tta: str = "none", metres: float | None = None
    ) -> list[Decided]:
        """Return masks and confidences (H, W) of RGB images (H, W, 3), whose sizes may differ."""
        numbers_by_size: dict[tuple[int, int], list[int]] = {}
        for number, image in enumerate(images):
            numbers_by_size.setdefault((image.shape[0], image.shape[1]), []).append(number)
        results: dict[int, Decided] = {}
        for size, numbers in numbers_by_size.items():
            input_size = self.scale.input_size(size, metres)
            stack = np.stack([resize_image(images[n], *input_size) for n in numbers])
            batch = torch.from_numpy(stack).permute(0, 3, 1, 2)
            results.update(zip(numbers, self.decide(batch, size, tta), strict=True))
        return [results[number] for number in range(len(images))]

    @torch.inference_mode()
    def decide(self, image: Tensor, size: Sequence[int], tta: str = "none") -> list[Decided]:
        """Return class ids and confidences at `size` (H, W).

        Args:
            image: uint8 (B, 3, h, w), already at the model's image size.
        """
        image = image.to(self.device)
        if tta == "none":
            return self.engine.decide(image, size)
        return decide(averaged(self.engine.logits, image, tta), size)

    @torch.inference_mode()
    def logits(self, image: Tensor, size: Sequence[int], tta: str = "none") -> Tensor:
        """Return logits (B, C, *size).

        Args:
            image: uint8 (B, 3, h, w), already at the model's image size.
        """
        logits = averaged(self.engine.logits, image.to(self.device), tta)
        if tuple(logits.shape[-2:]) != tuple(size):
            logits = F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
        return logits
