"""The identity of a sweep: the data, the code and the settings that must not change on resume."""

from typing import Any

import optuna

from segtune import __version__
from segtune.config.keys import flatten
from segtune.config.schema import RunConfig
from segtune.sweeping.engine.identity import IDENTITY
from segtune.sweeping.space import Space

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


def dataset_fingerprint(study: optuna.Study) -> str | None:
    """Return the fingerprint of the dataset that a study was started with, if it is recorded."""
    fingerprint = study.user_attrs.get(IDENTITY, {}).get("dataset")
    return None if fingerprint is None else str(fingerprint)


def facts_of(fingerprint: str, space: Space, config: RunConfig) -> dict[str, Any]:
    """Return the identity beyond the sweep file: the data, the code and the resolved settings.

    Args:
        fingerprint: of the dataset.
        config: of the first configuration.
    """
    values = flatten(config.model_dump(mode="json", include=_SECTIONS))
    settings = {key: value for key, value in values if value != {}}  # earlier sweeps lack them
    plugins = {part: plugin["sha256"] for part, plugin in config.plugins.items()}
    ranges = [dimension.describe() for dimension in space.dimensions]
    return {
        "dataset": fingerprint,
        "segtune": __version__,
        "space": ranges,
        "settings": settings,
        "plugins": plugins,
    }
