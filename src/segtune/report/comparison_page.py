"""The HTML page of a comparison: figures, pictures and tables."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segtune.classes import ClassTable
from segtune.errors import ConfigError, StorageError
from segtune.report.candidates import Candidate, Comparison
from segtune.report.figures import Figure, comparison_figures, plotly_script
from segtune.report.pictures import Picture, choose_pictures
from segtune.report.rendering import render
from segtune.report.sweep_figures import sweep_figures
from segtune.sweeping.importance import importance
from segtune.sweeping.location import sweep_folder
from segtune.sweeping.records import load_study, trial_rows
from segtune.tracking.runs import RunRecord, artifact, curve
from segtune.tracking.store import Store

_MOST_CURVES, _MOST_RELIABILITY_CURVES = 60, 5


def comparison_page(
    store: Store,
    comparison: Comparison,
    facts: Mapping[str, Any],
    base: Candidate | None,
    history: Sequence[Figure],
) -> str:
    """Return the page.

    Args:
        base: the candidate that the others are compared with.
        history: the figures of the sweep, see `sweep_history`.
    """
    figures: list[Figure] = []
    pictures: list[Picture] = []
    candidates = comparison.candidates
    if candidates:
        figures = _figures(candidates, facts, base)
        other = base if base is not candidates[0] else None
        if other is None and len(candidates) > 1:
            other = candidates[1]
        classes = _classes(store, candidates[0])
        pictures = choose_pictures(store, candidates[0], other, classes)
    rows = [*facts["candidates"], *facts["others"]]
    return render(
        "report.html.j2",
        facts=facts,
        figures=[*figures, *history],
        pictures=pictures,
        varied=_varied([row["params"] for row in rows]),
        best=facts["candidates"][0] if candidates else None,
        plotly=plotly_script(),
    )


def sweep_history(
    store: Store, comparison: Comparison, storage: str | None
) -> tuple[list[Figure], str]:
    """Return the figures of a sweep, and a warning if its study cannot be read.

    Args:
        storage: address of the study, if the store does not know it.
    """
    runs: list[RunRecord] = []
    for candidate in comparison.candidates:
        runs += candidate.runs
    runs += comparison.others
    names = _unique_names(runs)
    curves = {}
    for run in runs[:_MOST_CURVES]:
        points = curve(store, run.id, "val/miou")
        if points:
            curves[names[run.id]] = points
    pruned = [names[run.id] for run in runs if run.state == "pruned"]
    if len(comparison.sweeps) != 1:
        return sweep_figures([], curves, pruned, {}), ""
    sweep = comparison.sweeps[0]
    try:
        study = load_study(sweep_folder(store.root, sweep), sweep, storage)
        shares = dict(importance(study))
    except (StorageError, ConfigError) as error:
        problem = f"The report has no history, importance and slices: {error}"
        return sweep_figures([], curves, pruned, {}), problem
    trials = trial_rows(study) if study else []
    return sweep_figures(trials, curves, pruned, shares), ""


def _figures(
    candidates: Sequence[Candidate], facts: Mapping[str, Any], base: Candidate | None
) -> list[Figure]:
    """Return the figures of the candidates; best and baseline have reliability curves."""
    best = candidates[0]
    shown = {c.name: c for c in (best, base or best, *candidates[:_MOST_RELIABILITY_CURVES])}
    curves = {
        name: candidate.evidence[0].calibration.points()
        for name, candidate in list(shown.items())[:_MOST_RELIABILITY_CURVES]
    }
    matrix = np.sum([e.matrices.sum(0) for e in best.evidence], axis=0)
    return comparison_figures(facts, {"matrix": matrix.tolist(), "reliability": curves})


def _unique_names(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return a name for each run id."""
    count = Counter(r.name for r in runs)
    return {r.id: r.name if count[r.name] == 1 else f"{r.name} {r.id[:6]}" for r in runs}


def _varied(params: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the parameters that differ between runs, template and hyperparameters first."""
    sections = {"template": 0, "hp": 1}
    keys: set[str] = set().union(*params) - {"seed"}
    ordered = sorted(keys, key=lambda key: (sections.get(key.split(".")[0], 2), key))
    varied = []
    for key in ordered:
        values = {row.get(key) for row in params}
        if len(values) > 1:
            varied.append(key)
    return varied


def _classes(store: Store, candidate: Candidate) -> ClassTable:
    path = artifact(store, candidate.first.id, "classes.json")
    if path is None:
        return ClassTable.parse(list(candidate.evidence[0].origin.classes))
    return ClassTable.parse(json.loads(path.read_text(encoding="utf-8")))
