"""Workflows: segmenter, filter, labelers and edits in a chain that works as one model."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from segtune.classes import ClassTable
from segtune.config.dataset_schema import Count, Fraction, Settings
from segtune.config.keys import parse_settings
from segtune.errors import ConfigError, nearest
from segtune.inference.labeler import RegionLabeler
from segtune.inference.options import Options
from segtune.inference.regions.regions import Region, find_regions, renumbered
from segtune.inference.saved import Device, FolderModel, SavedModel
from segtune.inference.segmenter import Segmentation, Segmenter
from segtune.inference.workflow.edits import Edit
from segtune.inference.workflow.edits.common import Facts, Picture


class FilterConfig(Settings):
    """Conditions that a region must meet; others are removed.

    Attributes:
        concepts: names of the concepts to keep; None keeps all.
        min_confidence: least mean confidence of the region.
        min_area: pixels.
        min_area_share: share of the image.
    """

    concepts: list[str] | None = None
    min_confidence: Fraction = 0.0
    min_area: Count = 16
    min_area_share: Fraction = 0.0

    def accepts(self, region: Region) -> bool:
        """Whether the region meets all conditions."""
        height, width = region.size
        return (
            (self.concepts is None or region.concept in self.concepts)
            and region.mean_confidence >= self.min_confidence
            and region.area_share >= self.min_area_share
            and round(region.area_share * height * width) >= self.min_area
        )


class WorkflowConfig(Settings):
    """The content of a file in `conf/workflow/`.

    Attributes:
        title: a name for people.
        segmenter: `models:/NAME/VERSION`, `models:/NAME@champion`, `runs:/ID` or a folder.
        regions: `concept` or `components`.
        labelers: URIs of labelers, each of another concept. With `components` they also divide
            regions that show several things.
        edits: see `inference.workflow.edits`; they apply in this order.
        look: defaults for the options of `predict` (formats, smooth, tta …).
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
    """The result of the edits.

    Attributes:
        picture: (H, W, 3 or 4) uint8.
        facts: what each edit measured, by its name.
    """

    picture: Picture
    facts: Mapping[str, Facts]


@dataclass(frozen=True)
class Worked:
    """The result of a workflow for one image.

    Attributes:
        found: the result of the segmenter.
        regions: the filtered regions, with their finer concepts.
        edited: None for a workflow without edits.
    """

    found: Segmentation
    regions: list[Region]
    edited: Edited | None

    @property
    def mask(self) -> NDArray[np.uint8]:
        """Class ids (H, W) of the segmenter, before the filter."""
        return self.found.mask

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Softmax probability of the chosen class, (H, W)."""
        return self.found.confidence


class Workflow(FolderModel):
    """A segmenter, labelers, and edits of their regions.

    Args:
        parts: the pinned origin of segmenter and labelers: `uri` with version, `manifest_sha256`.

    Raises:
        ConfigError: a labeler of a concept that the segmenter lacks, two labelers of one concept,
            or an unknown name in filter or edits.
    """

    KIND = "workflow"

    def __init__(
        self,
        name: str,
        config: WorkflowConfig,
        segmenter: Segmenter,
        labelers: Sequence[RegionLabeler],
        parts: Sequence[Mapping[str, str]],
    ) -> None:
        self.name, self.config = name, config
        self.segmenter, self.labelers = segmenter, list(labelers)
        self.parts = list(parts)
        self._check_labelers()
        self._check_names()
        self.options({})

    def using(self, runtime: str, options: Mapping[str, Any] = MappingProxyType({})) -> "Workflow":
        """Return the workflow with another engine in its segmenter; see `Segmenter.using`."""
        other = copy.copy(self)
        other.segmenter = self.segmenter.using(runtime, options=options)
        return other

    def _check_labelers(self) -> None:
        segmenter_concepts = self.segmenter.classes.names
        labeled_concepts = [labeler.concept for labeler in self.labelers]
        for uri, concept in zip(self.config.labelers, labeled_concepts, strict=True):
            if concept not in segmenter_concepts:
                raise ConfigError(
                    f"workflow {self.name}: labeler {uri} labels regions of '{concept}', which the "
                    f"segmenter {self.config.segmenter} lacks; it knows "
                    f"{', '.join(segmenter_concepts)}. Remove the labeler, or take another "
                    "segmenter."
                )
            if labeled_concepts.count(concept) > 1:
                raise ConfigError(
                    f"workflow {self.name}: two labelers are for '{concept}'; keep one."
                )

    def _check_names(self) -> None:
        concepts = self.segmenter.classes.names
        names = [*concepts]
        for labeler in self.labelers:
            names += labeler.classes.names
        for edit in self.config.edits:
            for name in edit.names():
                if name not in names:
                    raise ConfigError(
                        f"workflow {self.name}: edit {edit.do}: {name}: {nearest(name, names)}"
                    )
        for name in self.config.filter.concepts or ():
            if name not in concepts:
                raise ConfigError(
                    f"workflow {self.name}: filter.concepts: {name}: {nearest(name, concepts)}"
                )

    @property
    def classes(self) -> ClassTable:
        """The class table of the segmenter, with the finer labels of the labelers."""
        finer = {labeler.concept: labeler.classes.names for labeler in self.labelers}
        rows = [replace(c, finer=finer.get(c.name, ())) for c in self.segmenter.classes.classes]
        return ClassTable(tuple(rows), self.segmenter.classes.ignore)

    @property
    def models(self) -> list[Segmenter | RegionLabeler]:
        """The segmenter, then the labelers."""
        return [self.segmenter, *self.labelers]

    def options(self, overrides: Mapping[str, Any]) -> Options:
        """Return the options of `predict`: the overrides, else the values of this workflow.

        Raises:
            ConfigError: an unknown name, or a number outside its range.
        """
        values = {
            "split": self.config.regions,
            "min_area": self.config.filter.min_area,
            **self.config.look,
            **overrides,
        }
        names = [f.name for f in fields(Options)]
        for key in values:
            if key not in names:
                raise ConfigError(f"workflow {self.name}: look.{key}: {nearest(key, names)}")
        values["formats"] = tuple(values.get("formats", Options.formats))
        if "formats" in overrides:  # the options of writers that are not used now
            own = dict(self.config.look.get("format_options", {}))
            own = {name: own[name] for name in own if name in values["formats"]}
            values["format_options"] = {**own, **overrides.get("format_options", {})}
        return Options(**values)

    def segment(self, image: Any) -> Worked:
        """Segment, filter, label and edit one image; see `Segmenter.segment`."""
        segmentation = self.segmenter.segment(image)
        regions = find_regions(
            segmentation.mask,
            segmentation.confidence,
            segmentation.classes,
            self.config.regions,
            self.config.filter.min_area,
        )
        regions = self.refine(segmentation, regions)
        return Worked(segmentation, regions, self.edit(segmentation, regions))

    def refine(self, segmentation: Segmentation, regions: Sequence[Region]) -> list[Region]:
        """Filter the regions, add finer concepts, and number them anew."""
        refined = renumbered(r for r in regions if self.config.filter.accepts(r))
        for labeler in self.labelers:
            refined = labeler.label(
                segmentation, refined, divide=self.config.regions == "components"
            )
        return refined

    def edit(self, segmentation: Segmentation, regions: list[Region]) -> Edited | None:
        """Apply the edits one after the other; None for a workflow without edits."""
        if not self.config.edits:
            return None
        picture, facts = segmentation.image, dict[str, Facts]()
        for edit in self.config.edits:
            name = edit.do if edit.do not in facts else f"{edit.do}_{len(facts)}"
            picture, facts[name] = edit.apply(picture, segmentation, regions)
        return Edited(picture, facts)

    def pinned(self) -> dict[str, Any]:
        """Return the exact configuration and parts, for regions.json."""
        return {
            "name": self.name,
            "config": self.config.model_dump(mode="json"),
            "parts": self.parts,
        }

    def _saved(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        tensors: dict[str, Tensor] = {}
        for number, model in enumerate(self.models):
            for name, tensor in model.model.state_dict().items():
                tensors[f"{number}.{name}"] = tensor
        return tensors, {
            "kind": self.KIND,
            "classes": self.classes.to_json(),
            **self.pinned(),
            "models": [dict(model.info) for model in self.models],
        }

    @classmethod
    def _build(cls, saved: SavedModel, device: Device) -> "Workflow":
        segmenter = Segmenter.from_saved(_part(saved, 0, "its segmenter"), device)
        labelers = []
        for number in range(1, len(saved.info["models"])):
            part = _part(saved, number, f"labeler {number}")
            labelers.append(RegionLabeler.from_saved(part, device))
        config = parse_settings(WorkflowConfig, saved.info["config"], saved.name)
        return cls(saved.info["name"], config, segmenter, labelers, saved.info["parts"])

    def identity(self) -> str:
        """Return a text that differs between workflows; a resumed prediction compares it."""
        models = [dict(model.info) for model in self.models]
        return json.dumps([self.pinned(), models], sort_keys=True, default=str)


def _part(saved: SavedModel, number: int, role: str) -> SavedModel:
    """Return one model of a saved workflow; its weights have the prefix `NUMBER.`."""
    prefix = f"{number}."
    tensors = {
        name.removeprefix(prefix): tensor
        for name, tensor in saved.tensors.items()
        if name.startswith(prefix)
    }
    return SavedModel(saved.info["models"][number], tensors, f"{saved.name}, {role}")
