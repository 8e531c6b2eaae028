"""Decide from facts how to train: each decision is a choice, its reason, and config words."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from segtune.automatic.facts import DataFacts

BASE_SIZE = 360
"""The shorter side of an image, in pixels, that suits most data: swift's default."""

_THIN = 6.0  # px; narrower areas get lost at stride 4
_DETAIL_FACTOR = 1.5  # of the larger image size for thin classes
_RARE = 0.02  # share of the pixels; crops are placed around rarer classes
_SAME_HALVES = 0.05  # largest difference of the upper and lower half without an up and a down
_LEAST_CROP = 64  # px: at stride 32, batch norms need more than one value for each channel
_FEW_IMAGES = 64  # fewer train images make smaller batches


@dataclass(frozen=True)
class Decision:
    """One decision.

    Attributes:
        what: it is about, as `image size`.
        choice: in words.
        reason: the facts behind it.
        words: of the config; none where the default stays.
    """

    what: str
    choice: str
    reason: str
    words: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """One line for people."""
        return f"{self.what}: {self.choice} ({self.reason})"


def decide(facts: DataFacts, given: Collection[str], side: int | None = None) -> list[Decision]:
    """The decisions on a dataset.

    Args:
        side: the shorter side of the images in training, in pixels; by default `base_side`.
        given: config keys that the user set; nothing is decided about them.
    """
    decisions = [
        _image_size(facts),
        *_crops(side or base_side(facts)),
        _batch(facts),
        _augmentation(facts),
        _sampling(facts),
        _loss(facts),
        _tiling(facts),
    ]
    return [decision for decision in decisions if not _is_given(decision, given)]


def _is_given(decision: Decision, given: Collection[str]) -> bool:
    keys = {text.partition("=")[0] for text in decision.words}
    sections = {key.partition(".")[0] for key in keys if not key.startswith("hp.")}
    return bool((keys | sections) & set(given))


def base_side(facts: DataFacts) -> int:
    """The shorter side of the images in training, in pixels."""
    shorter = min(facts.size)
    if shorter <= BASE_SIZE or not _is_thin(facts):
        return min(shorter, BASE_SIZE)
    return min(shorter, int(BASE_SIZE * _DETAIL_FACTOR))


def _is_thin(facts: DataFacts) -> bool:
    return bool(facts.widths) and facts.thinnest[1] < _THIN


def _image_size(facts: DataFacts) -> Decision:
    height, width = facts.size
    side, images = base_side(facts), f"the median image has {height} x {width} px"
    if min(facts.size) <= BASE_SIZE:
        reason = f"{images}: no pixel is thrown away"
    else:
        name, px = facts.thinnest if facts.widths else ("the only class", math.inf)
        need = "keep their shape at" if side == BASE_SIZE else f"are too thin at {BASE_SIZE} px, so"
        reason = f"{images}; areas of {name}, the thinnest, are {px:.0f} px wide and {need} {side}"
    return Decision("image size", f"shorter side {side} px", reason, (f"hp.image_size=[{side}]",))


def _crops(side: int) -> Iterator[Decision]:
    if side >= 256:
        return
    crop = max(_LEAST_CROP, side // 32 * 32)
    start = max(_LEAST_CROP, crop // 64 * 32)
    yield Decision(
        "crops",
        f"{start} growing to {crop} px",
        f"images of {side} px hold no crop of 256 px",
        (f"augment.crop_size={crop}", f"augment.crop_start={start}"),
    )


def _batch(facts: DataFacts) -> Decision:
    number = facts.images.get("train", 0)
    if number >= _FEW_IMAGES:
        return Decision("batch", "the template's own", f"{number:,} train images fill many of them")
    size = max(1, min(8, 2 ** int(math.log2(max(1, number / 3)))))
    reason = f"{number} train images make {math.ceil(number / size)} updates an epoch"
    return Decision("batch", f"{size} images", reason, (f"hp.batch_size={size}",))


def _augmentation(facts: DataFacts) -> Decision:
    percent = f"{100 * facts.halves:.0f} % of the class areas differ between upper and lower half"
    if facts.halves <= _SAME_HALVES:
        return Decision(
            "augmentation",
            "mirrored up and down, too",
            f"only {percent}: images have no up",
            ("augment.vflip=0.5",),
        )
    return Decision("augmentation", "mirrored left and right only", f"{percent}: images have an up")


def _sampling(facts: DataFacts) -> Decision:
    name, share = facts.rarest
    text = f"{name}, the rarest class, has {100 * share:.2g} % of the pixels"
    if share < _RARE:
        return Decision(
            "sampling", "half of the crops around rare classes", text, ("sampling.rare_crops=0.5",)
        )
    return Decision("sampling", "crops anywhere", text)


def _loss(facts: DataFacts) -> Decision:
    shares = sorted(facts.shown.values())
    ratio = shares[-1] / shares[0]
    reason = f"{len(shares)} classes, the largest {ratio:,.0f} times the smallest"
    return Decision("loss", "the template's own, weighted by the classes' shares", reason)


def _tiling(facts: DataFacts) -> Decision:
    height, width = facts.size
    if min(height, width) <= 2 * base_side(facts):
        return Decision("tiling", "none", "an image fits into the model whole")
    reason = f"images of {height} x {width} px are shrunk to the trained size, as in training"
    return Decision("tiling", "none, unless you predict with tile=…", reason)


def given_keys(words: Sequence[str]) -> set[str]:
    """The config keys that words of the command line set.

    >>> sorted(given_keys(["dataset=street", "+hp.width=16"]))
    ['dataset', 'hp.width']
    """
    return {text.lstrip("+~").partition("=")[0] for text in words}
