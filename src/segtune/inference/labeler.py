"""The labeler: a trained model that gives the regions of one concept their finer labels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segtune.classes import ClassTable
from segtune.data.images import read_image, resize_image, target_size
from segtune.errors import DataError
from segtune.inference.regions import Concept, Region
from segtune.inference.segmenter import versions
from segtune.models.build import Preprocessing
from segtune.models.folder import read_folder, write_folder
from segtune.models.labeler import RegionModel, build_labeler

_SHOWN = 5  # finer concepts that a region keeps


class RegionLabeler:
    """A model, the concept whose regions it looks at, and the finer labels that it tells apart.

    Attributes:
        min_area: pixels of the smallest regions that it learned from and was measured on.
    """

    def __init__(
        self,
        model: RegionModel,
        concept: str,
        classes: ClassTable,
        image_size: Sequence[int],
        min_area: int,
        info: Mapping[str, Any],
        device: str | torch.device | None = None,
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).eval()
        self.concept, self.classes, self.image_size = concept, classes, list(image_size)
        self.min_area, self.info = min_area, dict(info)

    @classmethod
    def load(
        cls, folder: str | Path, device: str | torch.device | None = None, manifest_hash: str | None = None
    ) -> "RegionLabeler":
        """Opens a labeler folder, after every byte of it was checked.

        Raises:
            DataError: not a labeler, changed files, or weights that do not fit the described model.
        """
        info, tensors = read_folder(Path(folder), manifest_hash)
        return cls.from_parts(info, tensors, device, str(folder))

    @classmethod
    def from_parts(
        cls, info: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str | torch.device | None, name: str
    ) -> "RegionLabeler":
        """Out of a description and weights; `name` is for messages.

        Raises:
            DataError: they do not belong together, or are no labeler's.
        """
        if info.get("kind") != "labeler":
            raise DataError(f"'{name}' is no labeler but a {info.get('kind', 'segmenter')}.")
        try:
            classes = ClassTable.parse(info["classes"])
            model = build_labeler(info["model"], len(classes))
            told = info["preprocessing"]
            described = Preprocessing(tuple(told["mean"]), tuple(told["std"]), int(told["multiple"]))
            model = RegionModel(model.encoder, int(info["model"]["width"]), len(classes), described)
            model.load_state_dict(dict(tensors))
        except (KeyError, TypeError, RuntimeError) as error:
            raise DataError(f"labeler '{name}': the description does not fit the weights ({error}).") from None
        return cls(model, info["concept"], classes, info["image_size"], info["min_area"], info, device)

    def save(self, folder: Path) -> str:
        """Writes the folder that `load` opens; returns the sha256 of its manifest."""
        return write_folder(folder, self.model.state_dict(), self.info)

    def describe(self, template: Mapping[str, Any], dataset: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Notes in `info`, which `save` writes, how to build the model and where it came from."""
        self.info = {
            "kind": "labeler",
            "concept": self.concept,
            "template": template["name"],
            "model": dict(template["model"]),
            "preprocessing": asdict(self.model.preprocessing),
            "image_size": self.image_size,
            "min_area": self.min_area,
            "classes": self.classes.to_json(),
            "dataset": dict(dataset),
            "metrics": dict(metrics),
            "versions": versions(),
        }

    def label(self, image: Any, regions: Sequence[Region]) -> list[Region]:
        """The regions in the same order, those of the concept with their finer concepts.

        Args:
            image: path, bytes, PIL image, array or tensor of the regions' size; see `read_image`.
            regions: of one mask: they share no pixel.

        Raises:
            DataError: not an image, or regions of another size.
        """
        pixels = read_image(image)
        chosen = [n for n, r in enumerate(regions) if r.concept == self.concept]
        height, width = pixels.shape[:2]
        numbers = np.zeros((height, width), np.int32)
        for count, place in enumerate(chosen, 1):
            if regions[place].size != (height, width):
                raise DataError(
                    f"region {regions[place].id} belongs to an image of {regions[place].size} (rows, "
                    f"columns), this one has {height, width}."
                )
            numbers[regions[place].mask()] = count
        if not chosen:
            return list(regions)
        found = list(regions)
        for place, chances in zip(chosen, self.chances(pixels, numbers), strict=True):
            order = np.argsort(-chances, kind="stable")[:_SHOWN]
            names = self.classes.names
            finer = tuple(Concept(int(k), names[k], float(chances[k])) for k in order)
            found[place] = replace(regions[place], finer=finer)
        return found

    @torch.inference_mode()
    def chances(self, image: NDArray[np.uint8], numbers: NDArray[np.int32]) -> NDArray[np.float32]:
        """Softmax probabilities (R, F) of the regions 1..R of an image (H, W, 3), numbered in (H, W) int32."""
        resized = resize_image(image, *target_size(image.shape[0], image.shape[1], self.image_size))
        batch = torch.from_numpy(np.ascontiguousarray(resized)).permute(2, 0, 1)[None]
        logits = self.model(batch.to(self.device), torch.from_numpy(numbers)[None].to(self.device))
        return np.asarray(logits.softmax(1).cpu().numpy())
