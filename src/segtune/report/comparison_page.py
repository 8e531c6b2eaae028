"""The HTML page of a comparison: its parts, and the data that its scripts read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segtune.classes import ClassTable
from segtune.pages.colors import SERIES
from segtune.report.candidates import Candidate, Comparison
from segtune.report.columns import candidate_table, run_values
from segtune.report.confusions import confusions
from segtune.report.figures import Figure, comparison_figures, plotly_script
from segtune.report.history import History
from segtune.report.links import run_links
from segtune.report.pictures import browser_data
from segtune.report.rendering import render
from segtune.report.slices import slice_rows
from segtune.report.tables import all_settings
from segtune.tracking.runs import artifact
from segtune.tracking.store import Store

_MOST_RELIABILITY_CURVES = 5


def comparison_page(
    store: Store,
    comparison: Comparison,
    facts: Mapping[str, Any],
    base: Candidate | None,
    history: History,
    image_table: Path | None,
) -> str:
    """Return the page.

    Args:
        base: the candidate that the others are compared with.
        image_table: a user's table of the split's images.
    """
    figures: list[Figure] = []
    browser: Mapping[str, Any] | None = None
    slices: Sequence[Mapping[str, Any]] = []
    candidates = comparison.candidates
    if candidates:
        figures = _figures(candidates, facts, base)
        browser = browser_data(store, candidates, base, _classes(store, candidates[0]))
        slices = slice_rows(store, candidates[0], _other(candidates, base), image_table)
    table = candidate_table(facts, history.searched)
    keys = [*table.searched, *table.others]
    runs = run_values(facts, keys)
    if len({run["params"]["seed"] for run in runs}) > 1:
        keys.append("seed")
    return render(
        "report.html.j2",
        facts=facts,
        table=table,
        links=run_links(store, comparison),
        figures=[*figures, *history.figures],
        browser=browser,
        slices=slices,
        best=facts["candidates"][0] if candidates else None,
        data={"runs": runs, "keys": keys, "curves": history.curves, "colors": SERIES},
        settings=all_settings(store, candidates[: len(facts["differs"]["candidates"])]),
        confusions=confusions(candidates[0].evidence[0]) if candidates else None,
        plotly=plotly_script(),
    )


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


def _other(candidates: Sequence[Candidate], base: Candidate | None) -> Candidate | None:
    """Return the candidate that the best is shown beside."""
    if base is not None and base is not candidates[0]:
        return base
    return candidates[1] if len(candidates) > 1 else None


def _classes(store: Store, candidate: Candidate) -> ClassTable:
    path = artifact(store, candidate.first.id, "classes.json")
    if path is None:
        return ClassTable.parse(list(candidate.evidence[0].origin.classes))
    return ClassTable.parse(json.loads(path.read_text(encoding="utf-8")))
