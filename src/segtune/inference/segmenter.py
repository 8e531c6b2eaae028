"""The segmenter: a trained model with everything that inference needs. Knows nothing of Lightning, Hydra or MLflow."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segtune.classes import ClassTable
from segtune.data.reading.images import read_image, resize_image
from segtune.errors import DataError
from segtune.inference.averaging import averaged
from segtune.inference.decisions import Decided, decide, decided_strips
from segtune.inference.engines.engine import Eager, make_engine
from segtune.inference.media.georeference import Georeference
from segtune.inference.media.pixel_size import pixel_metres
from segtune.inference.regions.overlay import draw_overlay
from segtune.inference.regions.regions import Region, find_regions
from segtune.inference.scale import MAX_LOOK, Piece, Scale, at_size, resized
from segtune.inference.tiling import Part, ReadWindow, Tiling, blended, windows_of
from segtune.models.build import build
from segtune.models.folder import read_folder, write_folder
from segtune.models.preprocessing import Preprocessing
from segtune.models.segmentation_model import SegmentationModel
from segtune.runtime.log import Log

_LIBRARIES = ("segtune", "torch", "timm", "segmentation-models-pytorch")


@dataclass(frozen=True)
class Segmentation:
    """What was seen in one image.

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
        """One region per class that occurs, largest first."""
        return find_regions(self.mask, self.confidence, self.classes)

    def overlay(self, opacity: float = 0.5) -> NDArray[np.uint8]:
        """The image with each class in its colour, (H, W, 3) uint8."""
        return draw_overlay(self.image, self.mask, self.classes, opacity)


class Segmenter:
    """A model, its classes, and the size at which it looks at images.

    Attributes:
        scale: how large images are looked at; `image_size` is its part that every segmenter has.
        engine: what computes; eager fp32, unless `using` made this.
    """

    def __init__(
        self,
        model: SegmentationModel,
        classes: ClassTable,
        image_size: Sequence[int],
        info: Mapping[str, Any],
        device: str | torch.device | None = None,
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()
        self.classes, self.image_size, self.info = classes, list(image_size), dict(info)
        self.scale = Scale(tuple(image_size), dict(info.get("dataset", {})).get("metres"))
        self.engine = Eager(self.model)

    def using(self, runtime: str, graphs: bool = False, say: Log = lambda _: None) -> "Segmenter":
        """The same segmenter, weights shared, that computes with another engine; this one stays as it is.

        Args:
            runtime: a name in `engines.ENGINES`; `auto` measures which is fastest here.
            graphs: whether `auto` may trace graphs, which takes seconds.

        Raises:
            ConfigError: an unknown name, or one whose libraries are not installed.
        """
        side = self.image_size
        size = (side[1], side[0]) if len(side) == 2 else (side[0], side[0])
        other = copy.copy(self)
        other.engine = make_engine(self.model, runtime, size, graphs, say)
        return other

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str | torch.device | None = None,
        manifest_hash: str | None = None,
    ) -> "Segmenter":
        """Opens a segmenter folder, after every byte of it was checked.

        Raises:
            DataError: not a segmenter, changed files, or weights that do not fit the described model.
        """
        info, tensors = read_folder(Path(folder), manifest_hash)
        return cls.from_parts(info, tensors, device, str(folder))

    @classmethod
    def from_parts(
        cls,
        info: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        device: str | torch.device | None,
        name: str,
    ) -> "Segmenter":
        """Out of a description and weights; `name` is for messages.

        Raises:
            DataError: they do not belong together, or are no segmenter's.
        """
        if info.get("kind", "segmenter") != "segmenter":
            raise DataError(
                f"'{name}' is no segmenter but a {info['kind']}"
                + (": use it in a workflow (conf/workflow/)." if info["kind"] == "labeler" else ".")
            )
        try:
            classes = ClassTable.parse(info["classes"])
            model = build(info["model"], len(classes))
            shapes = {k: tuple(v) for k, v in info["preprocessing"].items() if k != "multiple"}
            multiple = int(info["preprocessing"]["multiple"])
            described = Preprocessing(shapes["mean"], shapes["std"], multiple)
            model = SegmentationModel(model.net, described)
            model.load_state_dict(dict(tensors))
        except (KeyError, TypeError, RuntimeError) as error:
            raise DataError(
                f"segmenter '{name}': the description does not fit the weights ({error})."
            ) from None
        return cls(model, classes, info["image_size"], info, device)

    def save(self, folder: Path) -> str:
        """Writes the folder that `load` opens; returns the sha256 of its manifest."""
        return write_folder(folder, self.model.state_dict(), self.info)

    def describe(
        self, template: Mapping[str, Any], dataset: Mapping[str, Any], metrics: Mapping[str, float]
    ) -> None:
        """Notes in `info`, which `save` writes, how to build the model and where it came from.

        Args:
            dataset: what it was trained on; `metres` is the physical size of a pixel at the model's image size.
        """
        self.scale = Scale(tuple(self.image_size), dataset.get("metres"))
        self.info = {
            "template": template["name"],
            "model": dict(template["model"]),
            "preprocessing": asdict(self.model.preprocessing),
            "image_size": self.image_size,
            "classes": self.classes.to_json(),
            "dataset": dict(dataset),
            "metrics": dict(metrics),
            "versions": versions(),
        }

    def segment(
        self,
        image: Any,
        *,
        tiling: Tiling | None = None,
        tta: str = "none",
        metres: float | None = None,
    ) -> Segmentation:
        """Labels every pixel of one image.

        An image of any size is looked at in the scale that the model was trained at (`Scale`), in one piece, or in
        tiles where that is more than MAX_LOOK pixels.

        Args:
            image: path, bytes, PIL image, array or tensor; see `read_image`.
            tiling: looks at the image in tiles at its own size instead.
            tta: test-time augmentation, a name in `averaging.AVERAGES`.
            metres: physical size of a pixel; of a path, the file states it (`pixel_metres`). It counts for
                segmenters whose train images state one physical size.

        Raises:
            DataError: not an image.
            ConfigError: an unknown name.
        """
        if metres is None and self.scale.metres is not None and isinstance(image, str | Path):
            metres = self.pixel_metres(Path(image))
        pixels = read_image(image)
        size = (pixels.shape[0], pixels.shape[1])
        if tiling is None and self.is_whole(size, metres):
            mask, confidence = self.segment_batch([pixels], tta, metres)[0]
            return Segmentation(pixels, mask, confidence, self.classes)
        mask, confidence = np.empty(size, np.uint8), np.empty(size, np.float32)
        for piece in self.pieces(windows_of(pixels), size, tiling, tta, metres):
            bottom, right = piece.top + piece.ids.shape[0], piece.left + piece.ids.shape[1]
            mask[piece.top : bottom, piece.left : right] = piece.ids
            confidence[piece.top : bottom, piece.left : right] = piece.sure
        return Segmentation(pixels, mask, confidence, self.classes)

    def pixel_metres(self, path: Path, place: Georeference | None = None) -> float | None:
        """Metres of a pixel of an image file; None where the trained scale is not in metres."""
        return None if self.scale.metres is None else pixel_metres(path, place)

    def is_whole(self, size: tuple[int, int], metres: float | None = None) -> bool:
        """Whether an image of a size is looked at in one piece, at the trained scale."""
        height, width = self.scale.look(size, metres)
        return len(self.image_size) == 2 or height * width <= MAX_LOOK

    def pieces(
        self, read: ReadWindow, size: tuple[int, int], tiling: Tiling | None, tta: str = "none",
        metres: float | None = None,
    ) -> Iterator[Piece]:  # fmt: skip
        """What `segment` decides, piece by piece, of an image (height, width) that need not lie in memory."""
        look = size if tiling else self.scale.look(size, metres)
        view = resized(read, size, look)
        if tiling is None and self.is_whole(size, metres):
            image = torch.from_numpy(np.ascontiguousarray(view(0, 0, *look))).permute(2, 0, 1)[None]
            logits = self.logits(image, look, tta)[0]
            with torch.inference_mode():
                for rows, ids, sure in decided_strips(logits, size):
                    yield Piece(rows.start, 0, ids, sure)
            return
        side = Tiling.tile if len(self.image_size) == 2 else max(Tiling.tile, self.image_size[0])
        yield from at_size(self.parts(view, look, tiling or Tiling(side), tta), look, size)

    def parts(
        self, read: ReadWindow, size: tuple[int, int], tiling: Tiling, tta: str = "none"
    ) -> Iterator[Part]:
        """The logits of an image of any size (height, width), tiled and blended; see `tiling.blended`."""

        def infer(window: NDArray[np.uint8]) -> Tensor:
            image = torch.from_numpy(np.ascontiguousarray(window)).permute(2, 0, 1)[None]
            return self.logits(image, window.shape[:2], tta)[0]

        return blended(
            read, size, tiling, self.model.preprocessing.multiple, len(self.classes), infer
        )

    def segment_batch(
        self, images: Sequence[NDArray[np.uint8]], tta: str = "none", metres: float | None = None
    ) -> list[Decided]:
        """Masks and confidences (H, W) of RGB images (H, W, 3), each at its own size; sizes may differ."""
        sizes = [(i.shape[0], i.shape[1]) for i in images]
        found: list[Decided | None] = [None] * len(images)
        for size in dict.fromkeys(sizes):
            rows, look = (
                [n for n, s in enumerate(sizes) if s == size],
                self.scale.look(size, metres),
            )
            small = torch.from_numpy(
                np.stack([resize_image(images[n], *look) for n in rows])
            ).permute(0, 3, 1, 2)
            for n, decided in zip(rows, self.decide(small, size, tta), strict=True):
                found[n] = decided
        return [f for f in found if f is not None]

    @torch.inference_mode()
    def decide(self, image: Tensor, size: Sequence[int], tta: str = "none") -> list[Decided]:
        """Ids and confidences at `size` (H, W) of uint8 images (B, 3, h, w) that have the model's image size."""
        image = image.to(self.device)
        if tta == "none":
            return self.engine.decide(image, size)
        return decide(averaged(self.engine.logits, image, tta), size)

    @torch.inference_mode()
    def logits(self, image: Tensor, size: Sequence[int], tta: str = "none") -> Tensor:
        """Logits (B, C, *size) of uint8 images (B, 3, H, W) that already have the model's image size."""
        logits = averaged(self.engine.logits, image.to(self.device), tta)
        if tuple(logits.shape[-2:]) != tuple(size):
            logits = F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
        return logits


def versions() -> dict[str, str]:
    """Of the libraries that a model's weights depend on."""
    return {name: metadata.version(name) for name in _LIBRARIES}
