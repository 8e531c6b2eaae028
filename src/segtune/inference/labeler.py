"""The labeler: a trained model that adds finer labels to the regions of one concept."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from segtune.inference.saved import Device, FolderModel, SavedModel, default_device, training_info
from segtune.inference.segmenter import Segmentation
from segtune.models.labeler import Encoded, RegionModel, build_labeler

_TOP = 5  # finer concepts that a region keeps
_MIN_PART = 4  # smaller parts, in multiples of `min_area`, join their neighbour
_BLUR = 2.0  # pixels: sigma of the Gaussian over the class maps
_EPSILON = 1e-6  # added to probabilities, so that the product of two certain heads is not zero
_BATCH = 64  # regions pooled at a time: each takes as much memory as the feature map has cells

Area = tuple[Region, NDArray[np.bool_]]
"""A region, and the pixels (H, W) of it or of a part of it."""


class RegionLabeler(FolderModel):
    """A model, the concept whose regions it labels, and the finer labels that it can give.

    Attributes:
        min_area: pixels of the smallest regions in its training and validation.
    """

    KIND = "labeler"

    def __init__(
        self,
        model: RegionModel,
        concept: str,
        classes: ClassTable,
        image_size: Sequence[int],
        min_area: int,
        info: Mapping[str, Any],
        device: Device = None,
    ) -> None:
        self.device = default_device(device)
        self.model = model.to(self.device).eval()
        self.concept, self.classes, self.image_size = concept, classes, list(image_size)
        self.min_area, self.info = min_area, dict(info)

    @classmethod
    def _build(cls, saved: SavedModel, device: Device) -> "RegionLabeler":
        info = saved.info
        classes = ClassTable.parse(info["classes"])
        encoder = build_labeler(info["model"], len(classes)).encoder
        width = int(info["model"]["width"])
        model = RegionModel(encoder, width, len(classes), saved.preprocessing())
        model.load_state_dict(dict(saved.tensors))
        return cls(
            model, info["concept"], classes, info["image_size"], info["min_area"], info, device
        )

    def _saved(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        return self.model.state_dict(), self.info

    def describe(
        self,
        template: Mapping[str, Any],
        dataset: Mapping[str, Any],
        metrics: Mapping[str, float],
        plugins: Mapping[str, Any] | None = None,
    ) -> None:
        """Set `info`, which `save` writes: how to build the model, and where it comes from."""
        self.info = {
            "kind": self.KIND,
            "concept": self.concept,
            **training_info(template, self.model.preprocessing, dataset, metrics, plugins or {}),
            "image_size": self.image_size,
            "min_area": self.min_area,
            "classes": self.classes.to_json(),
        }

    def label(
        self, segmentation: Segmentation, regions: Sequence[Region], divide: bool = False
    ) -> list[Region]:
        """Add finer concepts to the regions of this labeler's concept.

        Args:
            regions: regions of the segmentation's mask; they share no pixel.
            divide: split a region that shows several things (two cars that overlap) along their
                seams, and number all regions anew.

        Raises:
            DataError: regions of another image.
        """
        _check_size(regions, segmentation.mask.shape)
        matching = [r for r in regions if r.concept == self.concept]
        if not matching:
            return list(regions)
        areas: list[Area] = [(region, region.mask()) for region in matching]
        encoded = self.encode(segmentation.image)
        if not divide:
            probabilities = self.probabilities(encoded, _numbered([a for _, a in areas]))
            by_id = {}
            for region, row in zip(matching, probabilities, strict=True):
                by_id[region.id] = replace(region, finer=self._top_concepts(row))
            return [by_id.get(r.id, r) for r in regions]
        areas, probabilities = self._divide(encoded, areas)
        parts = []
        for (region, area), row in zip(areas, probabilities, strict=True):
            part = describe_area(
                region.id, region.concept_id, area, segmentation.confidence, segmentation.classes
            )
            parts.append(replace(part, finer=self._top_concepts(row)))
        others = [r for r in regions if r.concept != self.concept]
        return renumbered(sorted([*others, *parts], key=lambda r: -r.area_share))

    def _top_concepts(self, probabilities: NDArray[np.float32]) -> tuple[Concept, ...]:
        order = np.argsort(-probabilities, kind="stable")[:_TOP]
        return tuple(Concept(int(k), self.classes.names[k], float(probabilities[k])) for k in order)

    def _divide(
        self, encoded: Encoded, areas: Sequence[Area]
    ) -> tuple[list[Area], NDArray[np.float32]]:
        """Split areas along their seams; return the parts and their probabilities (N, F).

        The probabilities are the normalised geometric mean of the two heads.
        """
        class_maps = self.class_maps(encoded, areas[0][1].shape)
        ids = class_maps.argmax(0).astype(np.uint8)
        parts: list[Area] = []
        for region, area in areas:
            for part in divided(area, ids, _MIN_PART * self.min_area):
                parts.append((region, part))
        masks = [mask for _, mask in parts]
        of_regions = self.probabilities(encoded, _numbered(masks))
        of_places = np.stack([class_maps[:, mask].mean(1) for mask in masks])
        probabilities = np.sqrt((of_regions + _EPSILON) * of_places)
        probabilities /= probabilities.sum(1, keepdims=True)
        return _joined(parts, probabilities)

    @torch.inference_mode()
    def encode(self, image: NDArray[np.uint8]) -> Encoded:
        """Return the model's features of an image (H, W, 3)."""
        resized = resize_image(image, *target_size(image.shape[0], image.shape[1], self.image_size))
        batch = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None]
        return self.model.encode(batch.to(self.device))

    @torch.inference_mode()
    def class_maps(self, encoded: Encoded, size: Sequence[int]) -> NDArray[np.float32]:
        """Return the probability (F, *size) of each finer label at each pixel, slightly blurred."""
        cells = self.model.place_logits(encoded)
        y, x = (
            _cell_positions(side, covered, number).to(cells)
            for side, covered, number in zip(
                size, (encoded.rows, encoded.columns), cells.shape[-2:], strict=True
            )
        )
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
        logits = F.grid_sample(cells, grid, padding_mode="border", align_corners=False)
        maps = logits.softmax(1)[0].cpu().numpy()
        return np.stack([cv2.GaussianBlur(m, (0, 0), _BLUR) for m in maps])

    @torch.inference_mode()
    def probabilities(self, encoded: Encoded, numbers: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return softmax probabilities (R, F) of the regions 1..R, numbered in (H, W) int32."""
        rows = []
        for first in range(0, int(numbers.max(initial=0)), _BATCH):
            batch = np.where((numbers > first) & (numbers <= first + _BATCH), numbers, 0)
            logits = self.model.region_logits(
                encoded, torch.from_numpy(batch)[None].to(self.device)
            )
            rows.append(logits.softmax(1).cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, len(self.classes)), np.float32)


def divided(
    area: NDArray[np.bool_], ids: NDArray[np.uint8], min_area: int
) -> list[NDArray[np.bool_]]:
    """Split an area (H, W) into connected parts of one id each.

    Args:
        ids: (H, W).
        min_area: parts of fewer pixels join the nearest part.
    """
    numbered = number_regions(np.where(area, ids, IGNORE_INDEX).astype(np.uint8), min_area)
    if len(numbered.labels) < 2:
        return [area]
    _, nearest = cv2.distanceTransformWithLabels(
        (numbered.numbers == 0).astype(np.uint8),
        cv2.DIST_L2,
        cv2.DIST_MASK_5,
        labelType=cv2.DIST_LABEL_PIXEL,
    )
    in_a_part = numbered.numbers > 0
    part_of_label = np.zeros(int(nearest.max()) + 1, np.int32)
    part_of_label[nearest[in_a_part]] = numbered.numbers[in_a_part]
    parts = np.where(area, part_of_label[nearest], 0)
    return [parts == number for number in range(1, len(numbered.labels) + 1)]


def _check_size(regions: Sequence[Region], size: tuple[int, ...]) -> None:
    for region in regions:
        if region.size != size:
            raise DataError(
                f"region {region.id} belongs to an image of {region.size} (rows, columns), "
                f"this one has {size}."
            )


def _cell_positions(side: int, covered: float, cells: int) -> Tensor:
    """Positions of pixels among the cells of a feature map, in [-1, 1] as `grid_sample` expects.

    The last cells may reach beyond the image. Stretching them to its size instead would shift
    everything up and left.

    Args:
        side: pixels of the image.
        covered: cells that the image covers.
        cells: all cells, with those of the padding.
    """
    return 2 * (torch.arange(side) + 0.5) / side * covered / cells - 1


def _numbered(areas: Sequence[NDArray[np.bool_]]) -> NDArray[np.int32]:
    numbers = np.zeros(areas[0].shape, np.int32)
    for number, area in enumerate(areas, 1):
        numbers[area] = number
    return numbers


def _joined(
    areas: Sequence[Area], probabilities: NDArray[np.float32]
) -> tuple[list[Area], NDArray[np.float32]]:
    """Join touching parts of a region with the same label; average their probabilities by area."""
    joined: list[Area] = []
    rows: list[NDArray[np.float32]] = []
    groups: dict[tuple[int, int], list[int]] = {}
    for index, ((region, _), row) in enumerate(zip(areas, probabilities, strict=True)):
        groups.setdefault((region.id, int(row.argmax())), []).append(index)
    for indices in groups.values():
        region = areas[indices[0]][0]
        union = np.any([areas[i][1] for i in indices], axis=0)
        count, labels = cv2.connectedComponents(union.astype(np.uint8), connectivity=8)
        for number in range(1, count):
            area = labels == number
            pixels = [np.count_nonzero(areas[i][1] & area) for i in indices]
            weights = np.array(pixels, np.float32)
            joined.append((region, area))
            rows.append((weights @ probabilities[indices] / weights.sum()).astype(np.float32))
    return joined, np.stack(rows)
