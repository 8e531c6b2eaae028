"""What a comparison says in words: never more than its intervals know."""

from collections.abc import Mapping
from typing import Any


def points(value: float | None, signed: bool = False) -> str:
    """A share in [0, 1] in points.

    >>> points(0.6543), points(0.007, signed=True), points(None)
    ('65.4', '+0.7', 'n/a')
    """
    return "n/a" if value is None else f"{100 * value:{'+' if signed else ''}.1f}"


def sample_words(facts: Mapping[str, Any]) -> str:
    """How many images, groups and seeds a comparison rests on."""
    split, seeds = facts["split"], sorted({len(c["runs"]) for c in facts["candidates"]})
    images = f"{split['images']} {split['name']} images"
    if split["groups"]:
        images += f" in {split['groups']} groups" if split["groups"] > 1 else " of one group"
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{images}, {count} seed{'' if seeds == [1] else 's'}"


def difference_words(candidate: Mapping[str, Any], baseline: str) -> str:
    """A candidate against the baseline."""
    d = candidate["difference"]
    interval = f"{points(d['value'], signed=True)} mIoU [{points(d['low'])}, {points(d['high'])}]"
    if not d["distinguishable"]:
        return f"not distinguishable: {candidate['name']} against {baseline}, {interval}"
    return f"{candidate['name']} {'better' if d['value'] > 0 else 'worse'} than {baseline} by {interval}"


def verdict_words(facts: Mapping[str, Any]) -> list[str]:
    """The verdict, a sentence each."""
    rows, base = facts["candidates"], facts["baseline"]
    best, sample = rows[0], sample_words(facts)
    others = [r for r in rows if r["name"] != base]
    if facts["method"] is None:
        listed = ", ".join(f"{r['name']} {points(r['miou'])}" for r in rows[:8])
        return [
            f"No interval can be given, for all images belong to one group: {listed} mIoU ({sample})."
        ]
    if not others:
        i = best["interval"]
        return [
            f"{best['name']}: {points(best['miou'])} mIoU [{points(i['low'])}, {points(i['high'])}], {sample}."
        ]
    if len(others) == 1:
        said = [f"{difference_words(others[0], base)}, {sample}."]
    else:
        value, i = next((r["miou"], r["interval"]) for r in rows if r["name"] == base)
        said = [
            f"{base}: {points(value)} mIoU [{points(i['low'])}, {points(i['high'])}], {sample}."
        ]
        apart = [r for r in others if r["difference"]["distinguishable"]]
        listed_as = {
            "Better": [r for r in apart if r["difference"]["value"] > 0],
            "Worse": [r for r in apart if r["difference"]["value"] < 0],
            "Not distinguishable from it": [
                r for r in others if not r["difference"]["distinguishable"]
            ],
        }
        for what, some in listed_as.items():
            if some:
                listed = ", ".join(r["name"] for r in some[:12]) + (", …" if len(some) > 12 else "")
                said.append(f"{what}: {len(some)} of {len(others)} ({listed}).")
    searched = max(r["trials"] for r in rows)
    if searched > 1:
        said.append(
            f"The best of {searched} trials was chosen on these images, which overestimates it: "
            "train it again on fresh seeds."
        )
    return said
