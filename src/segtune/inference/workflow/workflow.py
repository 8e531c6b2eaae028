"""Workflows: segmenter, filter, labelers and edits in a chain, loaded, saved and used as one model."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from segtune.classes import ClassTable
from segtune.config.dataset_schema import Count, Fraction, Settings
from segtune.config.keys import parse_settings
from segtune.errors import ConfigError, DataError, nearest
from segtune.inference.labeler import RegionLabeler
from segtune.inference.options import Options
from segtune.inference.regions.regions import Region, find_regions, renumbered
from segtune.inference.segmenter import Segmentation, Segmenter
from segtune.inference.workflow.edits import Edit
from segtune.inference.workflow.edits.common import Facts, Picture
from segtune.models.folder import write_folder


class FilterConfig(Settings):
    """Which regions go on.

    Attributes:
        concepts: names of those; None for all.
        min_confidence: of the mean over the region.
        min_area: pixels.
        min_area_share: share of the image.
    """

    concepts: list[str] | None = None
    min_confidence: Fraction = 0.0
    min_area: Count = 16
    min_area_share: Fraction = 0.0


class WorkflowConfig(Settings):
    """What a file of `conf/workflow/` says.

    Attributes:
        title: of the workflow, for people.
        segmenter: `models:/NAME/VERSION`, `models:/NAME@champion`, `runs:/ID` or a folder.
        regions: `concept` or `components`.
        labelers: the same for labelers, each of another concept; they divide components that show several things.
        edits: see `inference.edits`, in their order.
        look: options of `predict` (formats, smooth, tta …) where the call gives no others.
    """

    title: str = ""
    segmenter: str
    regions: Literal["concept", "components"] = "components"
    filter: FilterConfig = FilterConfig()
    labelers: list[str] = []
    edits: list[Edit] = Field(default=[])
    look: dict[str, Any] = {}


@dataclass(frozen=True)
class Edited:
    """What the edits left: the picture, (H, W, 3 or 4) uint8, and by edit what they stated."""

    picture: Picture
    facts: Mapping[str, Facts]


@dataclass(frozen=True)
class Worked:
    """What a workflow made of an image.

    Attributes:
        found: what the segmenter saw.
        regions: filtered, with their finer concepts.
        edited: None for a workflow without edits.
    """

    found: Segmentation
    regions: list[Region]
    edited: Edited | None

    @property
    def mask(self) -> NDArray[np.uint8]:
        """Class ids (H, W), of all that the segmenter saw."""
        return self.found.mask

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Softmax probability of the chosen class, (H, W)."""
        return self.found.confidence


class Workflow:
    """A segmenter, labelers, and what is done with their regions.

    Args:
        parts: where segmenter and labelers came from, pinned: `uri` with version, `manifest_sha256`.

    Raises:
        ConfigError: a labeler of a concept that the segmenter lacks, two of one, or an unknown name in filter or edits.
    """

    def __init__(
        self,
        name: str,
        config: WorkflowConfig,
        segmenter: Segmenter,
        labelers: Sequence[RegionLabeler],
        parts: Sequence[Mapping[str, str]],
    ) -> None:
        self.name, self.config, self.segmenter, self.labelers = (
            name,
            config,
            segmenter,
            list(labelers),
        )
        self.parts = list(parts)
        self._check()
        self.options({})

    def using(self, runtime: str) -> "Workflow":
        """The same workflow with a segmenter that computes with another engine; see `Segmenter.using`."""
        other = copy.copy(self)
        other.segmenter = self.segmenter.using(runtime)
        return other

    def _check(self) -> None:
        concepts = self.segmenter.classes.names
        labelled = [one.concept for one in self.labelers]
        for uri, concept in zip(self.config.labelers, labelled, strict=True):
            if concept not in concepts:
                raise ConfigError(
                    f"workflow {self.name}: labeler {uri} looks at regions of '{concept}', which the segmenter "
                    f"{self.config.segmenter} lacks; it knows {', '.join(concepts)}. Leave the labeler out, or take "
                    "another segmenter."
                )
            if labelled.count(concept) > 1:
                raise ConfigError(
                    f"workflow {self.name}: two labelers look at '{concept}'; keep one."
                )
        finer = [n for one in self.labelers for n in one.classes.names]
        for edit in self.config.edits:
            for name in edit.names():
                if name not in (*concepts, *finer):
                    raise ConfigError(
                        f"workflow {self.name}: edit {edit.do}: {name}: {nearest(name, [*concepts, *finer])}"
                    )
        for name in self.config.filter.concepts or ():
            if name not in concepts:
                raise ConfigError(
                    f"workflow {self.name}: filter.concepts: {name}: {nearest(name, concepts)}"
                )

    @property
    def classes(self) -> ClassTable:
        """The segmenter's, with the finer labels of the labelers."""
        finer = {one.concept: one.classes.names for one in self.labelers}
        rows = [replace(c, finer=finer.get(c.name, ())) for c in self.segmenter.classes.classes]
        return ClassTable(tuple(rows), self.segmenter.classes.ignore)

    @property
    def models(self) -> list[Segmenter | RegionLabeler]:
        """The segmenter, then the labelers."""
        return [self.segmenter, *self.labelers]

    def options(self, given: Mapping[str, Any]) -> Options:
        """How `predict` looks: as the call says, else as the workflow does.

        Raises:
            ConfigError: an unknown name, or a number outside its range.
        """
        told = {
            "split": self.config.regions,
            "min_area": self.config.filter.min_area,
            **self.config.look,
            **given,
        }
        names = [f.name for f in fields(Options)]
        for key in told:
            if key not in names:
                raise ConfigError(f"workflow {self.name}: look.{key}: {nearest(key, names)}")
        return Options(**told | {"formats": tuple(told.get("formats", Options.formats))})

    def segment(self, image: Any) -> Worked:
        """Everything that the workflow does with one image; see `Segmenter.segment`."""
        found = self.segmenter.segment(image)
        regions = find_regions(
            found.mask,
            found.confidence,
            found.classes,
            self.config.regions,
            self.config.filter.min_area,
        )
        regions = self.refine(found, regions)
        return Worked(found, regions, self.edit(found, regions))

    def refine(self, found: Segmentation, regions: Sequence[Region]) -> list[Region]:
        """The regions that pass the filter, with their finer concepts, numbered anew."""
        kept = renumbered(r for r in regions if self._passes(r, found.mask.size))
        for labeler in self.labelers:
            kept = labeler.label(found, kept, divide=self.config.regions == "components")
        return kept

    def edit(self, found: Segmentation, regions: list[Region]) -> Edited | None:
        """What the edits make of the image, one after the other; None where there are none."""
        if not self.config.edits:
            return None
        picture, facts = found.image, dict[str, Facts]()
        for edit in self.config.edits:
            picture, told = edit.apply(picture, found, regions)
            name = edit.do if edit.do not in facts else f"{edit.do}_{len(facts)}"
            facts[name] = told
        return Edited(picture, facts)

    def _passes(self, region: Region, pixels: int) -> bool:
        wanted = self.config.filter
        return (
            (wanted.concepts is None or region.concept in wanted.concepts)
            and region.mean_confidence >= wanted.min_confidence
            and region.area_share >= wanted.min_area_share
            and round(region.area_share * pixels) >= wanted.min_area
        )

    def pinned(self) -> dict[str, Any]:
        """What was used, exactly: for regions.json."""
        return {
            "name": self.name,
            "config": self.config.model_dump(mode="json"),
            "parts": self.parts,
        }

    def save(self, folder: Path) -> str:
        """Writes the folder that `open_model` opens, with all weights; returns the sha256 of its manifest."""
        tensors = {
            f"{n}.{k}": v
            for n, m in enumerate(self.models)
            for k, v in m.model.state_dict().items()
        }
        models = [dict(m.info) for m in self.models]
        described = {
            "kind": "workflow",
            "classes": self.classes.to_json(),
            **self.pinned(),
            "models": models,
        }
        return write_folder(folder, tensors, described)

    @classmethod
    def from_parts(
        cls,
        info: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        device: str | torch.device | None,
        name: str,
    ) -> "Workflow":
        """Out of a description and weights; `name` is for messages.

        Raises:
            DataError: they do not belong together, or are no workflow's.
        """
        if info.get("kind") != "workflow":
            raise DataError(f"'{name}' is no workflow but a {info.get('kind', 'segmenter')}.")
        try:
            first, *others = [
                (told, _of(tensors, number)) for number, told in enumerate(info["models"])
            ]
            segmenter = Segmenter.from_parts(*first, device, f"{name}, its segmenter")
            labelers = [
                RegionLabeler.from_parts(*o, device, f"{name}, labeler {n}")
                for n, o in enumerate(others, 1)
            ]
            config = parse_settings(WorkflowConfig, info["config"], name)
            return cls(info["name"], config, segmenter, labelers, info["parts"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"workflow '{name}': the description does not fit ({error}).") from None

    def identity(self) -> str:
        """Text that differs where the workflow does: what must stay for an interrupted prediction to go on."""
        models = [dict(m.info) for m in self.models]
        return json.dumps([self.pinned(), models], sort_keys=True, default=str)


def _of(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    prefix = f"{number}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
