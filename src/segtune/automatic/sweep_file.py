"""Write the decisions as a sweep file, which can be edited and run again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from segtune.automatic.decisions import Decision, given_keys
from segtune.automatic.portfolio import Candidate, TimePlan, learning_rates
from segtune.runtime.atomic import atomic_file

_RATE = "hp.per_item_lrate"


def sweep_content(
    name: str, words: Sequence[str], candidates: Sequence[Candidate], plan: TimePlan
) -> dict[str, Any]:
    """The keys of the sweep file: the candidates come first, and a search follows if time allows.

    Args:
        words: overrides of all trials.
    """
    templates = _distinct([candidate.item["template"] for candidate in candidates])
    search: dict[str, Any] = {"template": templates}
    for key in _distinct([key for c in candidates for key in c.item if key != "template"]):
        search[key] = _distinct([c.item[key] for c in candidates])
    enqueued = [dict(candidate.item) for candidate in candidates]
    trials = plan.trials
    if trials > len(candidates) and _RATE in given_keys(words):
        trials = len(candidates)  # nothing is left to search
    elif trials > len(candidates):
        search[_RATE] = {}
        rates = learning_rates(templates)
        enqueued = [item | {_RATE: rates[item["template"]]} for item in enqueued]
    minutes = round(plan.trial_minutes, 3)
    return {
        "name": name,
        "n_trials": trials,
        "workers": plan.workers,
        # templates need unlike numbers of epochs: curves over epochs cannot be compared
        "pruner": "median" if len(templates) == 1 else "none",
        "overrides": [*words, f"trainer.minutes={minutes}"],
        "enqueue": enqueued,
        "search": search,
    }


def write_sweep_file(
    path: Path, content: dict[str, Any], decisions: Sequence[Decision], minutes: float
) -> None:
    """Write the file with its question, its cost and the decisions as comments."""
    cost = content["n_trials"] * float(content["overrides"][-1].partition("=")[2])
    lines = [
        f"# Question: which starting configuration suits {content['name']} best on this machine?",
        f"# Cost: about {cost / content['workers']:.2g} of {minutes:g} minutes.",
        "# Written by `segtune auto`, which decided:",
        *(f"#   {decision.line}" for decision in decisions),
    ]
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    with atomic_file(path) as unfinished:
        unfinished.write_text("\n".join([*lines, text]), encoding="utf-8")


def _distinct(values: Sequence[Any]) -> list[Any]:
    """The values in their order, each once; they may be lists."""
    return [value for number, value in enumerate(values) if value not in values[:number]]
