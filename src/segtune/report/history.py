"""The course of the compared runs: curves of their metrics, and the study of their sweep."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segtune.errors import ConfigError, StorageError
from segtune.report.candidates import Comparison
from segtune.report.figures import Figure
from segtune.report.front_figure import front_figure
from segtune.report.sweep_figures import SweepFacts, sweep_figures
from segtune.sweeping.importance import importance, importance_ranges
from segtune.sweeping.location import sweep_folder
from segtune.sweeping.records import load_study, log_params, objective_points, trial_rows
from segtune.tracking.runs import RunRecord, curve
from segtune.tracking.store import Store

_METRICS = ("val/miou", "train/loss", "val/loss", "train/lr")
_MOST_CURVES = 60


@dataclass(frozen=True)
class History:
    """The course of the runs.

    Attributes:
        curves: by metric and run id: `name`, `pruned`, and `points` (epoch, value); mIoU is in
            points.
        searched: parameters of the sweep's search space.
        problem: the reason why the study cannot be read, or empty.
    """

    figures: Sequence[Figure]
    curves: Mapping[str, Mapping[str, Any]]
    searched: Sequence[str] = field(default=())
    problem: str = ""


def sweep_history(store: Store, comparison: Comparison, storage: str | None) -> History:
    """Return the course of a comparison's runs.

    Args:
        storage: address of the study, if the store does not know it.
    """
    curves = _curves(store, comparison)
    mious = curves.get("val/miou", {})
    points = {c["name"]: [(e, v / 100) for e, v in c["points"]] for c in mious.values()}
    pruned = [c["name"] for c in mious.values() if c["pruned"]]
    facts, objectives, problem = SweepFacts(), None, ""
    if len(comparison.sweeps) == 1:
        sweep = comparison.sweeps[0]
        try:
            study = load_study(sweep_folder(store.root, sweep), sweep, storage)
            if study is not None:
                facts = SweepFacts(
                    trial_rows(study),
                    importance(study),
                    importance_ranges(study),
                    log_params(study),
                )
                objectives = objective_points(study)
        except (StorageError, ConfigError) as error:
            problem = f"The report has no history, importance and slices: {error}"
    searched: set[str] = set()
    for trial in facts.trials:
        searched |= {name.partition("@")[0] for name in trial["params"]}
    fronts = [front_figure(objectives)] if objectives else []
    figures = [*fronts, *sweep_figures(facts, points, pruned)]
    return History(figures, curves, sorted(searched), problem)


def _curves(store: Store, comparison: Comparison) -> dict[str, dict[str, Any]]:
    runs: list[RunRecord] = []
    for candidate in comparison.candidates:
        runs += candidate.runs
    runs += comparison.others
    names = _unique_names(runs)
    curves: dict[str, dict[str, Any]] = {}
    for metric in _METRICS:
        scale = 100 if metric == "val/miou" else 1
        for run in runs[:_MOST_CURVES]:
            points = curve(store, run.id, metric) if metric in run.metrics else []
            if points:
                curves.setdefault(metric, {})[run.id] = {
                    "name": names[run.id],
                    "pruned": run.state == "pruned",
                    "points": [(epoch, round(scale * value, 5)) for epoch, value in points],
                }
    return curves


def _unique_names(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return a name for each run id."""
    count = Counter(r.name for r in runs)
    return {r.id: r.name if count[r.name] == 1 else f"{r.name} {r.id[:6]}" for r in runs}
