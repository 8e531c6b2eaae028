"""The warnings of a comparison: reasons why its figures may mislead."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from segtune.report.candidates import Candidate

_FEW_IMAGES = 100
_FEW_SEEDS = 3
_SHOWN = 5  # names in a warning


def warning_words(facts: Mapping[str, Any], candidates: Sequence[Candidate]) -> list[str]:
    """Return one sentence or two for each warning."""
    split, rows = facts["split"], facts["candidates"]
    warnings = [*_split_warnings(split), *_seed_warnings(rows)]
    unmeasured = [r["name"] for r in facts["others"] if "not measured" in r["state"]]
    if unmeasured:
        warnings.append(
            f"Finished trials without evidence on {split['name']} are left out: "
            f"{_listed(unmeasured)}."
        )
    warnings += _read_warnings(split, candidates)
    trials = {r["name"]: r["trials"] for r in rows}
    if len(set(trials.values())) > 1:
        least = min(trials, key=lambda name: trials[name])
        most = max(trials, key=lambda name: trials[name])
        warnings.append(
            f"Unequal tuning: {most} was chosen from {trials[most]} trials, {least} from "
            f"{trials[least]}. The best of more trials has a higher mIoU by luck alone."
        )
    if len({r["train_fingerprint"] for r in rows}) > 1:
        warnings.append("The candidates were trained on different train splits.")
    if len({r["device"] for r in rows}) > 1:
        warnings.append("Latencies were measured on different devices and cannot be compared.")
    return warnings


def _split_warnings(split: Mapping[str, Any]) -> list[str]:
    warnings = []
    duplicates = split["duplicates"]
    if duplicates:
        warnings.append(
            f"{len(duplicates)} of the {split['images']} images are also in the train split, byte "
            f"for byte ({_listed(duplicates)}), so all figures are too high."
        )
    absent = [c["name"] for c in split["classes"] if not c["pixels"]]
    if absent:
        warnings.append(f"The split has no pixel of {', '.join(absent)}, so their IoU is unknown.")
    if split["images"] < _FEW_IMAGES:
        warnings.append(
            f"{split['images']} images are few: with fewer than {_FEW_IMAGES}, the intervals "
            "themselves are inaccurate."
        )
    if split["groups"] == 1:
        warnings.append("All images are in one group (a video or scene), so there is no interval.")
    return warnings


def _seed_warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    warnings = []
    single = [r["name"] for r in rows if len(r["runs"]) == 1]
    if single:
        names = "all" if len(single) == len(rows) else _listed(single)
        warnings.append(f"Candidates with one seed: {names}. The effect of other seeds is unknown.")
    few = [r["name"] for r in rows if 1 < len(r["runs"]) < _FEW_SEEDS]
    if few:
        warnings.append(
            f"Candidates with two seeds: {_listed(few)}. Their interval over seeds is very wide; "
            "three seeds or more make it useful."
        )
    return warnings


def _read_warnings(split: Mapping[str, Any], candidates: Sequence[Candidate]) -> list[str]:
    """Return a warning if the test split was read before the training of the last run ended."""
    ends = []
    for candidate in candidates:
        ends += [run.started + run.seconds for run in candidate.runs]
    last = datetime.fromtimestamp(max(ends), UTC).isoformat(timespec="microseconds")
    early = [read for read in split["test_reads"] if read["time"] < last]
    if not early:
        return []
    return [
        f"Reads of the test split before the training of all candidates had ended: {len(early)}. "
        "The test split may have influenced the candidates."
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
