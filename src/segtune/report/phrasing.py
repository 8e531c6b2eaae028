"""The words of a comparison; they claim no more than the intervals support."""

from collections.abc import Mapping, Sequence
from typing import Any

_MOST_NAMES = 12
Row = Mapping[str, Any]
"""A candidate of the facts, see `gather`."""


def points(value: float | None, signed: bool = False) -> str:
    """Format a share in [0, 1] in points.

    >>> points(0.6543), points(0.007, signed=True), points(None)
    ('65.4', '+0.7', 'n/a')
    """
    return "n/a" if value is None else f"{100 * value:{'+' if signed else ''}.1f}"


def short(value: str | None) -> str:
    """Format a parameter for a narrow column; numbers get three significant digits.

    >>> short("0.00021838272691163758"), short("resnet18"), short(None)
    ('0.000218', 'resnet18', '–')
    """
    if value is None:
        return "–"
    try:
        return value if value.isdigit() else f"{float(value):.3g}"
    except ValueError:
        return value


def sample_words(facts: Mapping[str, Any]) -> str:
    """Return the numbers of images, groups and seeds of a comparison."""
    split, seeds = facts["split"], sorted({len(c["runs"]) for c in facts["candidates"]})
    images = f"{split['images']} {split['name']} images"
    if split["groups"]:
        images += f" in {split['groups']} groups" if split["groups"] > 1 else " of one group"
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{images}, {count} seed{'' if seeds == [1] else 's'}"


def difference_words(candidate: Row, baseline: str) -> str:
    """Return the comparison of a candidate with the baseline."""
    difference = candidate["difference"]
    verdict = f"{candidate['name']} is {_relation(difference)} {baseline}"
    return f"{verdict}: {points(difference['value'], signed=True)} {_miou_unit(difference)}"


def verdict_words(facts: Mapping[str, Any]) -> list[str]:
    """Return the verdict as a list of sentences."""
    rows, base_name = facts["candidates"], facts["baseline"]
    sample = sample_words(facts)
    if facts["method"] is None:
        mious = ", ".join(f"{r['name']} {points(r['miou'])}" for r in rows[:8])
        return [
            "No intervals can be given, since all images are in one group. "
            f"mIoU in points: {mious} ({sample})."
        ]
    base = next(r for r in rows if r["name"] == base_name)
    others = [r for r in rows if r is not base]
    if len(others) == 1:
        sentences = [f"{difference_words(others[0], base_name)}, {sample}."]
    else:
        value = f"{points(base['miou'])} {_miou_unit(base['interval'])}"
        sentences = [f"{base_name}: {value}, {sample}."]
        sentences += _relations(others, base_name)
    trials = max((r["trials"] for r in rows if not r["confirmed"]), default=1)
    if others and trials > 1 and facts["split"]["name"] == "val":
        sentences.append(
            f"The best of {trials} trials was chosen on these images, so its mIoU is too high: "
            "retrain it with new seeds."
        )
    return sentences


def _relations(others: Sequence[Row], baseline: str) -> list[str]:
    """Return a sentence for each relation of the candidates to the baseline."""
    sentences = []
    for relation in ("better than", "worse than", "not distinguishable from"):
        names = [r["name"] for r in others if _relation(r["difference"]) == relation]
        if names:
            shown = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
            count = f"{len(names)} of {len(others)}"
            sentences.append(f"{relation.capitalize()} {baseline}: {count} ({shown}).")
    return sentences


def _relation(difference: Mapping[str, Any]) -> str:
    if not difference["distinguishable"]:
        return "not distinguishable from"
    return "better than" if difference["value"] > 0 else "worse than"


def _miou_unit(interval: Mapping[str, float]) -> str:
    return f"points of mIoU [{points(interval['low'])}, {points(interval['high'])}]"
