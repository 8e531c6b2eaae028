"""The words of a comparison; they claim no more than the intervals support."""

from collections.abc import Mapping, Sequence
from typing import Any

_MOST_NAMES = 12
_MOST_MORE_SEEDS, _MOST_TIMES_IMAGES = 50, 20  # larger needs are out of reach
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
    difference, name = candidate["difference"], candidate["name"]
    extent = "" if _covers_seeds(difference) else " on these images"
    return (
        f"{name} is {_relation(difference)} {baseline}{extent}: "
        f"{points(difference['value'], signed=True)} {_miou_unit(difference)}, "
        f"p {p_words(difference['p_corrected'])}, "
        f"P({name} > {baseline}) {difference['probability']:.2f}"
    )


def p_words(p_value: float) -> str:
    """Format a p-value.

    >>> p_words(0.0123), p_words(0.00001)
    ('0.012', '< 0.001')
    """
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def need_words(candidate: Row, baseline: Row, split: Mapping[str, Any]) -> str:
    """Return the seeds or images that would show a difference; empty if neither is in reach."""
    difference = candidate["difference"]
    need, units = difference["needed"], difference["units"]
    size = f"a difference of {points(need['difference'])} points"
    ways = []
    seeds_now = min(len(candidate["runs"]), len(baseline["runs"]))
    if need["seeds"] is not None and need["seeds"] - seeds_now <= _MOST_MORE_SEEDS:
        more = max(0, need["seeds"] - seeds_now)
        ways.append(f"{more} more seed{'' if more == 1 else 's'} of each would show {size}")
    if need["images"] is not None and need["images"] <= _MOST_TIMES_IMAGES * units:
        unit = "groups" if split["groups"] else "images"
        runs = "with these seeds" if ways else f"would show {size} between these runs"
        ways.append(f"{need['images']} {split['name']} {unit} (now {units}) {runs}")
    return ", or ".join(ways)


def plan_words(facts: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each comparison: the seeds and images that show `facts["plan"]`."""
    rows = facts["candidates"]
    base = next(r for r in rows if r["name"] == facts["baseline"])
    sentences = []
    for row in rows:
        if row["difference"]:
            need = need_words(row, base, facts["split"]) or (
                "neither more seeds nor more images, within reason, would show "
                f"a difference of {points(facts['plan'])} points"
            )
            unknown = (
                ""
                if _covers_seeds(row["difference"])
                else (" The variance between seeds is unknown: train each with at least 3 seeds.")
            )
            sentences.append(f"Plan for {row['name']} and {base['name']}: {need}.{unknown}")
    return sentences


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
        other = others[0]
        sentences = [f"{difference_words(other, base_name)}; {sample}."]
        need = need_words(other, base, facts["split"])
        if need and not other["difference"]["distinguishable"]:
            sentences.append(f"{need}.")
    else:
        value = f"{points(base['miou'])} {_miou_unit(base['interval'])}"
        sentences = [f"{base_name}: {value}, {sample}."]
        sentences += _relations(others, base_name)
    if any(not _covers_seeds(row["difference"]) for row in others):
        sentences.append(
            "Another seed may change a verdict about one run: train each with at least 3 seeds."
        )
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


def _covers_seeds(difference: Mapping[str, Any]) -> bool:
    return bool(difference["covers"] == "seeds and images")


def _relation(difference: Mapping[str, Any]) -> str:
    if not difference["distinguishable"]:
        return "not distinguishable from"
    return "better than" if difference["value"] > 0 else "worse than"


def _miou_unit(interval: Mapping[str, float]) -> str:
    return f"points of mIoU [{points(interval['low'])}, {points(interval['high'])}]"
