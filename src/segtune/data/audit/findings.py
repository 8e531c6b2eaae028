"""What a check can find: each kind with what it does to training, and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning"]

# kind -> (severity, what it is, what it does to training)
KINDS: dict[str, tuple[Severity, str, str]] = {
    "unreadable_image": (
        "error",
        "no image that can be read",
        "left out within dataset.tolerance, else it stops",
    ),
    "truncated_image": (
        "error",
        "ends early or is damaged inside",
        "part of the image would be grey",
    ),
    "bomb": ("error", "claims more pixels than memory holds", "training would run out of memory"),
    "unreadable_mask": (
        "error",
        "no mask that can be read",
        "left out within dataset.tolerance, else it stops",
    ),
    "size_mismatch": (
        "error",
        "mask and image differ in size",
        "labels would lie beside what they label",
    ),
    "exif_mismatch": (
        "error",
        "the image's EXIF orientation turns it, the mask was drawn on the image as stored",
        "labels would lie a quarter turn beside what they label",
    ),
    "unknown_ids": ("error", "the mask holds ids that no class names", "training would stop at it"),
    "unknown_colors": (
        "error",
        "the mask holds colours that no class has",
        "training would stop at it",
    ),
    "mask_0_255": (
        "error",
        "a 0/255 mask, where class ids are expected",
        "the object would be ignored as 255",
    ),
    "mask_palette": (
        "error",
        "the palette's colours are the classes', its indices are not",
        "classes would be mixed up",
    ),
    "mask_rgb": (
        "error",
        "a mask of colours, where class ids are expected",
        "training would stop at it",
    ),
    "mask_antialiased": (
        "error",
        "borders pass through values in between: the mask was resized with interpolation",
        "borders would be labelled as classes that are not there",
    ),
    "mask_jpeg": (
        "error",
        "a mask stored as JPEG, which alters values",
        "ids around borders would be wrong",
    ),
    "mask_off_by_one": (
        "error",
        "ids start at 1 where the classes start at 0",
        "every class would be taken for the next",
    ),
    "missing_mask": ("error", "images without a mask", "training would stop at it"),
    "missing_image": ("warning", "masks without an image", "they are not used"),
    "two_images": ("error", "two images for one mask", "training would stop at it"),
    "case_clash": (
        "error",
        "names that differ in upper and lower case alone",
        "pairs are missed here, and files overwrite each other on other systems",
    ),
    "unicode_clash": (
        "error",
        "names that look the same and differ in their Unicode form",
        "pairs are missed here, and files overwrite each other on other systems",
    ),
    "foreign_path": (
        "error",
        "absolute paths of another machine",
        "training would find no such image",
    ),
    "list_entry": (
        "error",
        "a split list names images that are not there",
        "training would stop at it",
    ),
    "split_overlap": (
        "error",
        "images that stand in two split lists",
        "the score would count what was learned",
    ),
    "duplicate": (
        "error",
        "the same image in two splits",
        "the score would count what was learned",
    ),
    "near_duplicate": (
        "error",
        "nearly the same image in two splits",
        "the score would count what was learned",
    ),
    "empty_class": (
        "error",
        "classes that no train mask shows",
        "they cannot be learned, and score 0",
    ),
    "rare_class": ("warning", "classes that very few train images show", "they are hardly learned"),
    "absent_from_val": ("warning", "classes that no val mask shows", "their score is not measured"),
    "too_small": (
        "warning",
        "classes of which the chosen image size leaves too few pixels",
        "they are hardly learned, and hardly counted",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One kind of fault, with every file that has it.

    Attributes:
        files: relative to the dataset's root; for a class, the class's name.
        details: what was found, a line for each file.
        repair: the command or config line that repairs it.
    """

    kind: str
    files: Sequence[str]
    details: Sequence[str]
    repair: str
    fixes: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def severity(self) -> Severity:
        """Whether training must not go on with it."""
        return KINDS[self.kind][0]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        _, what, effect = KINDS[self.kind]
        return {
            "kind": self.kind, "severity": self.severity, "what": what, "effect": effect, "files": list(self.files),
            "details": list(self.details), "repair": self.repair,
        }  # fmt: skip

    def lines(self, shown: int = 5) -> list[str]:
        """For people."""
        _, what, effect = KINDS[self.kind]
        more = [f"    … and {len(self.details) - shown} more"] if len(self.details) > shown else []
        head = f"{self.severity}: {self.kind}: {what} ({len(self.files)}); {effect}"
        return [
            head,
            *(f"    {d}" for d in self.details[:shown]),
            *more,
            f"    repair: {self.repair}",
        ]


def merge(old: Any, new: Any) -> Any:
    """Two fixes as one: mappings and lists are joined, anything else is the newer's.

    >>> merge({"quarantine": {"train": ["a"]}}, {"quarantine": {"train": ["b"]}, "pairs": {}})
    {'quarantine': {'train': ['a', 'b']}, 'pairs': {}}
    """
    if isinstance(old, dict) and isinstance(new, dict):
        return {
            k: merge(old[k], new[k]) if k in old and k in new else {**old, **new}[k]
            for k in {**old, **new}
        }
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *(v for v in new if v not in old)]
    return new
