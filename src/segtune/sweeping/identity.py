"""What must stay the same when a sweep is resumed, and how a difference is told."""

from collections.abc import Mapping
from typing import Any

from segtune import __version__
from segtune.config.keys import flatten
from segtune.config.renamed import current_key
from segtune.config.schema import RunConfig
from segtune.sweeping.space import Space
from segtune.sweeping.spec import with_current_keys

_DERIVED = ("space", "settings")  # from the sweep file and what it names
_SECTIONS = {
    "seed",
    "hp",
    "loss",
    "optimizer",
    "scheduler",
    "tuning",
    "augment",
    "sampling",
    "trainer",
    "labeler",
}


def facts_of(fingerprint: str, space: Space, config: RunConfig) -> dict[str, Any]:
    """The facts beside the sweep file: data, code, and what the names in the file stand for.

    Args:
        fingerprint: of the dataset.
        config: of the first configuration.
    """
    settings = dict(flatten(config.model_dump(mode="json", include=_SECTIONS)))
    ranges = [d.describe() for d in space.dimensions]
    return {"dataset": fingerprint, "segtune": __version__, "space": ranges, "settings": settings}


def differences(known: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """What differs between two identities of a study, a line each; what the older one lacks is left out.

    >>> differences({"search": {"seed": [0, 1]}}, {"search": {"seed": [0]}, "space": ["seed: 0"]})
    ['search.seed: [0, 1] -> [0]']
    """
    known = _with_current_keys(known)
    rows: list[str] = []
    for key, value in mine.items():
        before = known.get(key)
        if key == "overrides":
            before, value = _without_store(before), _without_store(value)
        if key not in known or before == value:
            continue
        if key in _DERIVED and rows:  # follows from what the file says
            continue
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            names = [n for n in {**before, **value} if before.get(n) != value.get(n)]
            rows += [f"{key}.{n}: {before.get(n)} -> {value.get(n)}" for n in names]
        else:
            rows.append(f"{key}: {before} -> {value}")
    return rows


def _with_current_keys(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded identity as this version would record it, where keys have new names."""
    current = with_current_keys(known)
    if isinstance(known.get("settings"), Mapping):
        current["settings"] = {current_key(k): v for k, v in known["settings"].items()}
    if isinstance(known.get("space"), list):
        rows = [line.partition(": ") for line in known["space"]]
        current["space"] = [f"{current_key(key)}{colon}{text}" for key, colon, text in rows]
    return current


def _without_store(overrides: Any) -> Any:
    """The overrides without those that say where runs are recorded: they change no result."""
    return overrides and [o for o in overrides if not str(o).startswith("tracking.")]
