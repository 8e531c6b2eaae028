"""The identity of a study: the question, the data and the code that must not change on resume."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from segtune.errors import ConfigError, StorageError
from segtune.runtime.atomic import atomic_file
from segtune.runtime.filenames import STUDY_FILE
from segtune.sweeping.engine.settings import StudySettings

IDENTITY = "identity"  # user attribute of a study
_ID, _DRIFT = "id", "drift"
_DERIVED = ("space", "settings")  # follow from the other values


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
            f"the study's folder '{folder}' cannot be written: {error}. Choose another folder."
        ) from error
    return number


def check_identity(study: optuna.Study, spec: StudySettings, facts: Mapping[str, Any]) -> None:
    """Refuse to continue a study whose question, data or code changed.

    A refusal leaves the study as it was. With `allow_drift` the study records the change.

    Args:
        facts: further values that must stay the same, such as the fingerprint of the data.

    Raises:
        ConfigError: names every difference.
    """
    # through JSON, as the study stores it: tuples become lists
    current = json.loads(json.dumps({**spec.identity(), **facts}))
    recorded = study.user_attrs.get(IDENTITY)
    changes = []
    if recorded is not None:
        changes = differences(spec.comparable(recorded), spec.comparable(current))
    if changes and not spec.allow_drift:
        raise ConfigError(
            f"sweep '{spec.name}' was started with another configuration: {'; '.join(changes)}. "
            "Change it back, give the new question a name of its own with "
            f"{spec.key('name')}=…, or continue with {spec.key('allow_drift')}=true, which the "
            "study records. (n_trials, budget, stop_when, workers, enqueue and start_from may "
            "change.)"
        )
    if changes:
        drift = {"after_trial": len(study.get_trials(deepcopy=False)), "changed": changes}
        study.set_user_attr(_DRIFT, [*study.user_attrs.get(_DRIFT, []), drift])
    if current != recorded:
        study.set_user_attr(IDENTITY, current)


def differences(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return one line for each difference; keys that the recorded identity lacks are skipped.

    >>> differences({"search": {"seed": [0, 1]}}, {"search": {"seed": [0]}, "space": ["seed: 0"]})
    ['search.seed: [0, 1] -> [0]']
    """
    lines: list[str] = []
    for key, after in current.items():
        before = recorded.get(key)
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
