"""The kinds of faults that a check finds, each with its effect on training and its message."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning"]


class FaultKind(NamedTuple):
    """A kind of fault; `effect` says what happens in training if nobody repairs it."""

    severity: Severity
    description: str
    effect: str


_STOPS = "training would stop at it"
_LEFT_OUT = "left out within dataset.tolerance, else training stops"
_LEAKS = "the score would count images that were learned"
_OVERWRITES = "pairs are missed here, and files overwrite each other on other systems"

KINDS = {
    "unreadable_image": FaultKind("error", "files that are no image", _LEFT_OUT),
    "truncated_image": FaultKind(
        "error",
        "images that end early or are damaged inside",
        "part of the image would be grey",
    ),
    "bomb": FaultKind(
        "error",
        "images that claim more pixels than memory holds",
        "training would run out of memory",
    ),
    "several_pages": FaultKind("error", "images of several pages, of which one is read", _STOPS),
    "unknown_range": FaultKind(
        "error", "images whose values do not say what is black and white", _STOPS
    ),
    "alpha_is_a_band": FaultKind(
        "error",
        "images whose band of opacity holds data",
        "training would stop at it: the band would whiten the image",
    ),
    "narrow_range": FaultKind(
        "error",
        "images of more than 8 bits that use a small part of their range",
        "training would stop at it: all images would be nearly black",
    ),
    "bands": FaultKind("warning", "images with more bands than are read", "the others are lost"),
    "unreadable_mask": FaultKind("error", "masks that cannot be read", _LEFT_OUT),
    "size_mismatch": FaultKind(
        "error",
        "mask and image differ in size",
        "labels would lie beside the objects",
    ),
    "exif_mismatch": FaultKind(
        "error",
        "the image's EXIF orientation turns it, but the mask was drawn on the stored image",
        "labels would lie a quarter turn beside the objects",
    ),
    "unknown_ids": FaultKind("error", "masks with ids that no class has", _STOPS),
    "unknown_colors": FaultKind("error", "masks with colours that no class has", _STOPS),
    "mask_0_255": FaultKind(
        "error",
        "masks of 0 and one other value, such as 255, where class ids are expected",
        "the object would be ignored as 255, or training would stop at it",
    ),
    "mask_unclear": FaultKind(
        "error",
        "masks that are not stored as dataset.mask_format says",
        "training would stop at it",
    ),
    "mask_palette": FaultKind(
        "error",
        "masks whose palette has the classes' colours, but whose indices are other classes",
        "classes would be mixed up",
    ),
    "mask_palettes_differ": FaultKind(
        "error",
        "masks whose palettes give one colour several indices",
        "classes would be mixed up",
    ),
    "mask_rgb": FaultKind("error", "masks of colours, where class ids are expected", _STOPS),
    "mask_antialiased": FaultKind(
        "error",
        "masks resized with interpolation: borders pass through values in between",
        "borders would be labelled as classes that are not there",
    ),
    "mask_thin_lines": FaultKind(
        "warning",
        "masks whose borders pass through ids in between: thin classes, or interpolation",
        "if they were resized with interpolation, borders are labelled as classes that are not "
        "there",
    ),
    "mask_jpeg": FaultKind(
        "error",
        "masks stored as JPEG, which changes values",
        "ids around borders would be wrong",
    ),
    "mask_off_by_one": FaultKind(
        "error",
        "ids start at 1, but the classes start at 0",
        "every class would be taken for the next",
    ),
    "missing_mask": FaultKind("error", "images without a mask", _STOPS),
    "missing_image": FaultKind("warning", "masks without an image", "they are not used"),
    "passed_over": FaultKind(
        "warning",
        "files among images and masks with a suffix that is not read",
        "they are not used",
    ),
    "two_images": FaultKind("error", "two images for one mask", _STOPS),
    "two_masks": FaultKind("error", "two masks for one image", _STOPS),
    "mask_preview": FaultKind(
        "warning", "a JPEG beside a mask of the same name", "it is taken for a preview"
    ),
    "case_clash": FaultKind("error", "names that differ only in upper and lower case", _OVERWRITES),
    "unicode_clash": FaultKind(
        "error", "names that look equal and differ in their Unicode form", _OVERWRITES
    ),
    "foreign_path": FaultKind(
        "error", "absolute paths of another machine", "training would find no such image"
    ),
    "list_entry": FaultKind("error", "split lists that name images which do not exist", _STOPS),
    "split_overlap": FaultKind("error", "images in two split lists", _LEAKS),
    "duplicate": FaultKind("error", "the same image in two splits", _LEAKS),
    "near_duplicate": FaultKind("error", "nearly the same image in two splits", _LEAKS),
    "divided_group": FaultKind(
        "warning",
        "nearly the same image, of one group, in two splits",
        "the score counts images that resemble learned ones",
    ),
    "empty_class": FaultKind(
        "error", "classes in no train mask", "they cannot be learned, and score 0"
    ),
    "rare_class": FaultKind(
        "warning", "classes in very few train images", "they are hardly learned"
    ),
    "absent_from_val": FaultKind(
        "warning", "classes in no val mask", "their score is not measured"
    ),
    "too_small": FaultKind(
        "warning",
        "classes with too few pixels at this image size",
        "they are hardly learned, and hardly counted",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One kind of fault, with every file that has it.

    Attributes:
        kind: a key of `KINDS`.
        files: relative to the dataset's root; for a class, the class's name.
        details: one line for each file.
        repair: the command or config line that repairs it.
        fixes: what `dataset.fixes` needs for it.
    """

    kind: str
    files: Sequence[str]
    details: Sequence[str]
    repair: str
    fixes: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def severity(self) -> Severity:
        """`error` for a fault that training refuses, beyond `dataset.tolerance`."""
        return KINDS[self.kind].severity

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        severity, description, effect = KINDS[self.kind]
        return {
            "kind": self.kind,
            "severity": severity,
            "what": description,
            "effect": effect,
            "files": list(self.files),
            "details": list(self.details),
            "repair": self.repair,
        }

    def lines(self, shown: int = 5) -> list[str]:
        """Text for a terminal, with the first details."""
        severity, description, effect = KINDS[self.kind]
        hidden = len(self.details) - shown
        return [
            f"{severity}: {self.kind}: {description} ({len(self.files)}); {effect}",
            *(f"    {detail}" for detail in self.details[:shown]),
            *([f"    … and {hidden} more"] if hidden > 0 else []),
            f"    repair: {self.repair}",
        ]


def merge(old: Any, new: Any) -> Any:
    """Merge two fixes: mappings and lists are joined, of other values the new one counts.

    >>> merge({"quarantine": {"train": ["a"]}}, {"quarantine": {"train": ["b"]}, "pairs": {}})
    {'quarantine': {'train': ['a', 'b']}, 'pairs': {}}
    """
    if isinstance(old, dict) and isinstance(new, dict):
        merged = {**old, **new}
        for key in old.keys() & new.keys():
            merged[key] = merge(old[key], new[key])
        return merged
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *(value for value in new if value not in old)]
    return new
