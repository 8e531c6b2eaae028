"""The identity of a sweep: the question, the data and the code that must not change on resume."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from segtune import __version__
from segtune.config.keys import flatten
from segtune.config.renamed import current_key
from segtune.config.schema import RunConfig
from segtune.errors import ConfigError, StorageError
from segtune.runtime.atomic import atomic_file
from segtune.sweeping.space import Space
from segtune.sweeping.spec import SweepSpec, with_current_keys
from segtune.tracking.runs import STUDY_FILE

_ID, _IDENTITY, _DRIFT = "id", "identity", "drift"  # user attributes of a study
_DERIVED = ("space", "settings")  # follow from the sweep file and the files that it names
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


def study_id(study: optuna.Study, folder: Path) -> str:
    """Return the id of a study, which its runs carry; a new study gets one.

    Args:
        folder: of the sweep. It keeps the id, so that reports find the runs of this study among
            those of other studies of the same name.

    Raises:
        StorageError: the folder cannot be written.
    """
    recorded = study.user_attrs.get(_ID)
    number = str(recorded or uuid.uuid4().hex)
    if recorded is None:
        study.set_user_attr(_ID, number)
    path = folder / STUDY_FILE
    try:
        if not path.is_file() or path.read_text(encoding="utf-8") != number:
            with atomic_file(path, shared=True) as unfinished:
                unfinished.write_text(number, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"the sweep's folder '{folder}' cannot be written: {error}. Set tracking.root."
        ) from error
    return number


def check_identity(study: optuna.Study, spec: SweepSpec, facts: Mapping[str, Any]) -> None:
    """Refuse to continue a study whose question, data or code changed.

    A refusal leaves the study as it was. With `sweep.allow_drift` the study records the change.

    Args:
        facts: further values that must stay the same; see `facts_of`.

    Raises:
        ConfigError: names every difference.
    """
    # through JSON, as the study stores it: tuples become lists
    current = json.loads(json.dumps({**spec.identity(), **facts}))
    recorded = study.user_attrs.get(_IDENTITY)
    changes = [] if recorded is None else differences(recorded, current)
    if changes and not spec.allow_drift:
        raise ConfigError(
            f"sweep '{spec.name}' was started with another configuration: {'; '.join(changes)}. "
            "Change it back, give the new question a name of its own with sweep.name=…, or "
            "continue with sweep.allow_drift=true, which the study records. (n_trials, budget, "
            "workers and enqueue may change.)"
        )
    if changes:
        drift = {"after_trial": len(study.get_trials(deepcopy=False)), "changed": changes}
        study.set_user_attr(_DRIFT, [*study.user_attrs.get(_DRIFT, []), drift])
    if current != recorded:
        study.set_user_attr(_IDENTITY, current)


def dataset_fingerprint(study: optuna.Study) -> str | None:
    """Return the fingerprint of the dataset that a study was started with, if it is recorded."""
    fingerprint = study.user_attrs.get(_IDENTITY, {}).get("dataset")
    return None if fingerprint is None else str(fingerprint)


def facts_of(fingerprint: str, space: Space, config: RunConfig) -> dict[str, Any]:
    """Return the identity beyond the sweep file: the data, the code and the resolved settings.

    Args:
        fingerprint: of the dataset.
        config: of the first configuration.
    """
    settings = dict(flatten(config.model_dump(mode="json", include=_SECTIONS)))
    ranges = [dimension.describe() for dimension in space.dimensions]
    return {"dataset": fingerprint, "segtune": __version__, "space": ranges, "settings": settings}


def differences(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return one line for each difference; keys that the recorded identity lacks are skipped.

    >>> differences({"search": {"seed": [0, 1]}}, {"search": {"seed": [0]}, "space": ["seed: 0"]})
    ['search.seed: [0, 1] -> [0]']
    """
    recorded = _with_current_keys(recorded)
    lines: list[str] = []
    for key, after in current.items():
        before = recorded.get(key)
        if key == "overrides":
            before, after = _without_store(before), _without_store(after)
        if key not in recorded or before == after:
            continue
        if key in _DERIVED and lines:  # the lines so far explain this difference
            continue
        if isinstance(after, Mapping) and isinstance(before, Mapping):
            names = [n for n in {**before, **after} if before.get(n) != after.get(n)]
            lines += [f"{key}.{n}: {before.get(n)} -> {after.get(n)}" for n in names]
        else:
            lines.append(f"{key}: {before} -> {after}")
    return lines


def _with_current_keys(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded identity with the present names of config keys."""
    current = with_current_keys(recorded)
    if isinstance(recorded.get("settings"), Mapping):
        settings = recorded["settings"].items()
        current["settings"] = {current_key(key): value for key, value in settings}
    if isinstance(recorded.get("space"), list):
        parts = [line.partition(": ") for line in recorded["space"]]
        current["space"] = [f"{current_key(key)}{colon}{text}" for key, colon, text in parts]
    return current


def _without_store(overrides: Any) -> Any:
    """Return the overrides without the tracking store, which changes no result."""
    return overrides and [o for o in overrides if not str(o).startswith("tracking.")]
