"""What earlier sweeps recorded, with the present names of config keys."""

import functools
from collections.abc import Mapping
from typing import Any

from segtune.config.keys import flatten
from segtune.config.renamed import current_key, current_word
from segtune.config.schema import RunConfig
from segtune.sweeping.objectives import DEFAULT


def with_current_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sweep's settings, or a study's identity, with the present names of config keys."""
    current = dict(data)
    if isinstance(data.get("search"), Mapping):
        current["search"] = _rename_keys(data["search"])
    if isinstance(data.get("overrides"), list):
        words = data["overrides"]
        current["overrides"] = [current_word(w) if isinstance(w, str) else w for w in words]
    if isinstance(data.get("enqueue"), list):
        items = data["enqueue"]
        current["enqueue"] = [_rename_keys(i) if isinstance(i, Mapping) else i for i in items]
    if isinstance(data.get("prior"), Mapping):
        current["prior"] = _rename_keys(data["prior"])
    return current


def comparable_identity(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study's identity with the present names of config keys, without the store.

    Settings that it lacks, as keys that are newer, get the default that keeps what was before.
    """
    current = with_current_keys(recorded)
    if "search" in recorded:
        current.setdefault("objective", DEFAULT)  # of sweeps that recorded none
    if recorded.get("overrides"):  # the store changes no result
        words = current["overrides"]
        current["overrides"] = [w for w in words if not str(w).startswith("tracking.")]
    if isinstance(recorded.get("settings"), Mapping):
        settings = recorded["settings"].items()
        renamed = {current_key(key): value for key, value in settings}
        current["settings"] = _default_settings() | renamed
    if isinstance(recorded.get("space"), list):
        parts = [line.partition(": ") for line in recorded["space"]]
        current["space"] = [f"{current_key(key)}{colon}{text}" for key, colon, text in parts]
    return current


@functools.cache
def _default_settings() -> dict[str, Any]:
    """Key -> value of the schema, for the settings in a study's identity."""
    sections = {"loss", "tuning", "augment", "sampling", "trainer"}
    defaults = {
        name: field.annotation.model_construct().model_dump(mode="json")
        for name, field in RunConfig.model_fields.items()
        if name in sections and field.annotation is not None
    }
    return {key: value for key, value in flatten(defaults) if value != {}}


def _rename_keys(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {current_key(str(key)): value for key, value in values.items()}
