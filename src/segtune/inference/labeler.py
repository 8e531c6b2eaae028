"""The labeler: a trained model that gives the regions of one concept their finer labels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.data.batches.finer import number_regions
from segtune.data.reading.images import resize_image, target_size
from segtune.errors import DataError
from segtune.inference.regions.regions import Concept, Region, describe_area, renumbered
from segtune.inference.segmenter import Segmentation, versions
from segtune.models.folder import write_folder
from segtune.models.labeler import Encoded, RegionModel, build_labeler
from segtune.models.preprocessing import Preprocessing

_SHOWN = 5  # finer concepts that a region keeps
_LEAST_PART = 4  # parts of fewer times `min_area` pixels are none
_BLUR = 2.0  # pixels
_LEAST = (
    1e-6  # of a probability: two heads that are sure of different labels must not leave nothing
)
_AT_ONCE = (
    64  # regions that are pooled together: each takes as much memory as the features have places
)


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
    def from_parts(
        cls,
        info: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        device: str | torch.device | None,
        name: str,
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
            described = Preprocessing(
                tuple(told["mean"]), tuple(told["std"]), int(told["multiple"])
            )
            model = RegionModel(model.encoder, int(info["model"]["width"]), len(classes), described)
            model.load_state_dict(dict(tensors))
        except (KeyError, TypeError, RuntimeError) as error:
            raise DataError(
                f"labeler '{name}': the description does not fit the weights ({error})."
            ) from None
        return cls(
            model, info["concept"], classes, info["image_size"], info["min_area"], info, device
        )

    def save(self, folder: Path) -> str:
        """Writes the folder that `open_model` opens; returns the sha256 of its manifest."""
        return write_folder(folder, self.model.state_dict(), self.info)

    def describe(
        self, template: Mapping[str, Any], dataset: Mapping[str, Any], metrics: Mapping[str, float]
    ) -> None:
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

    def label(
        self, found: Segmentation, regions: Sequence[Region], divide: bool = False
    ) -> list[Region]:
        """The regions, those of the concept with their finer concepts.

        Args:
            found: what the segmenter saw.
            regions: of its mask: they share no pixel.
            divide: part a region along the seams of what it shows, as two cars that overlap, and number all anew.

        Raises:
            DataError: regions of another image.
        """
        height, width = found.mask.shape
        for region in regions:
            if region.size != (height, width):
                raise DataError(
                    f"region {region.id} belongs to an image of {region.size} (rows, columns), this one has "
                    f"{height, width}."
                )
        mine = [r for r in regions if r.concept == self.concept]
        if not mine:
            return list(regions)
        areas, encoded = [(r, r.mask()) for r in mine], self.encode(found.image)
        if divide:
            places = self.places(encoded, (height, width))
            ids = places.argmax(0).astype(np.uint8)
            areas = [
                (r, part)
                for r, area in areas
                for part in divided(area, ids, _LEAST_PART * self.min_area)
            ]
        chances = self.chances(encoded, _numbered([a for _, a in areas]))
        if divide:
            chances = np.sqrt(
                (chances + _LEAST) * np.stack([places[:, a].mean(1) for _, a in areas])
            )
            chances /= chances.sum(1, keepdims=True)
            areas, chances = _joined(areas, chances)
        labelled = []
        for (region, area), row in zip(areas, chances, strict=True):
            order = np.argsort(-row, kind="stable")[:_SHOWN]
            finer = tuple(Concept(int(k), self.classes.names[k], float(row[k])) for k in order)
            if divide:
                region = describe_area(
                    region.id, region.concept_id, area, found.confidence, found.classes
                )
            labelled.append(replace(region, finer=finer))
        if not divide:
            by_id = {r.id: r for r in labelled}
            return [by_id.get(r.id, r) for r in regions]
        rest = [r for r in regions if r.concept != self.concept]
        return renumbered(sorted([*rest, *labelled], key=lambda r: -r.area_share))

    @torch.inference_mode()
    def encode(self, image: NDArray[np.uint8]) -> Encoded:
        """What the model sees of an image (H, W, 3)."""
        resized = resize_image(image, *target_size(image.shape[0], image.shape[1], self.image_size))
        return self.model.encode(
            torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].to(self.device)
        )

    @torch.inference_mode()
    def places(self, encoded: Encoded, size: tuple[int, int]) -> NDArray[np.float32]:
        """Probabilities (F, *size) of what would be seen at each place of an image, a little blurred."""
        own = self.model.place_logits(encoded)
        covered = zip(size, (encoded.rows, encoded.columns), own.shape[-2:], strict=True)
        # the last cells may reach beyond the image: stretched to its size instead, all would lie too far up and left
        y, x = (
            2 * (torch.arange(side, device=own.device) + 0.5) / side * part / cells - 1
            for side, part, cells in covered
        )
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
        logits = F.grid_sample(own, grid.to(own.dtype), padding_mode="border", align_corners=False)
        return np.stack(
            [cv2.GaussianBlur(p, (0, 0), _BLUR) for p in logits.softmax(1)[0].cpu().numpy()]
        )

    @torch.inference_mode()
    def chances(self, encoded: Encoded, numbers: NDArray[np.int32]) -> NDArray[np.float32]:
        """Softmax probabilities (R, F) of the regions 1..R of an image, numbered in (H, W) int32."""
        rows = []
        for first in range(0, int(numbers.max(initial=0)), _AT_ONCE):
            some = np.where((numbers > first) & (numbers <= first + _AT_ONCE), numbers, 0)
            logits = self.model.region_logits(encoded, torch.from_numpy(some)[None].to(self.device))
            rows.append(logits.softmax(1).cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, len(self.classes)), np.float32)


def divided(
    area: NDArray[np.bool_], ids: NDArray[np.uint8], min_area: int
) -> list[NDArray[np.bool_]]:
    """An area (H, W) in parts of one id each, of at least `min_area` pixels; what is smaller goes to the nearest part.

    Args:
        ids: (H, W).
    """
    found = number_regions(np.where(area, ids, IGNORE_INDEX).astype(np.uint8), min_area)
    if len(found.labels) < 2:
        return [area]
    _, nearest = cv2.distanceTransformWithLabels(
        (found.numbers == 0).astype(np.uint8),
        cv2.DIST_L2,
        cv2.DIST_MASK_5,
        labelType=cv2.DIST_LABEL_PIXEL,
    )
    number_of = np.zeros(int(nearest.max()) + 1, np.int32)
    number_of[nearest[found.numbers > 0]] = found.numbers[found.numbers > 0]
    whole = np.where(area, number_of[nearest], 0)
    return [whole == n for n in range(1, len(found.labels) + 1)]


def _numbered(areas: Sequence[NDArray[np.bool_]]) -> NDArray[np.int32]:
    numbers = np.zeros(areas[0].shape, np.int32)
    for number, area in enumerate(areas, 1):
        numbers[area] = number
    return numbers


def _joined(
    areas: Sequence[tuple[Region, NDArray[np.bool_]]], chances: NDArray[np.float32]
) -> tuple[list[tuple[Region, NDArray[np.bool_]]], NDArray[np.float32]]:
    """Parts of one region that got the same label are one again where they touch; chances by their areas."""
    joined: list[tuple[Region, NDArray[np.bool_]]] = []
    rows: list[NDArray[np.float32]] = []
    groups: dict[tuple[int, int], list[int]] = {}
    for place, ((region, _), row) in enumerate(zip(areas, chances, strict=True)):
        groups.setdefault((region.id, int(row.argmax())), []).append(place)
    for places in groups.values():
        region = areas[places[0]][0]
        together = np.any([areas[p][1] for p in places], axis=0)
        count, labels = cv2.connectedComponents(together.astype(np.uint8), connectivity=8)
        for number in range(1, count):
            area = labels == number
            weights = np.array([np.count_nonzero(areas[p][1] & area) for p in places], np.float32)
            joined.append((region, area))
            rows.append((weights @ chances[places] / weights.sum()).astype(np.float32))
    return joined, np.stack(rows)
