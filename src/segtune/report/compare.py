"""The comparison report: one HTML file that opens from disk, with its numbers as JSON and CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segtune.config.commands import command
from segtune.errors import ConfigError, nearest
from segtune.pages.rendering import write_files
from segtune.report.candidates import Candidate, Comparison, collect
from segtune.report.card import card_text
from segtune.report.comparison_page import comparison_page
from segtune.report.facts import gather
from segtune.report.history import sweep_history
from segtune.report.tables import differing_settings, runs_csv
from segtune.runtime.filenames import folder_name
from segtune.runtime.strict_json import to_json
from segtune.tracking.evidence import evaluate_command
from segtune.tracking.recorded import advice_on_test_split
from segtune.tracking.store import Store
from segtune.tracking.suggesting import predict_command

_MOST_DIFFERING = 8  # candidates in the table of differing settings


@dataclass(frozen=True)
class Report:
    """The files of a report and their content.

    Attributes:
        facts: the content of the JSON file.
        best: the candidate with the highest mIoU; None if no run has finished.
    """

    html: Path
    json: Path
    csv: Path
    facts: Mapping[str, Any]
    best: Candidate | None

    @property
    def runs(self) -> int:
        """Number of runs in the report."""
        return sum(len(c["runs"]) for c in self.facts["candidates"]) + len(self.facts["others"])

    def to_json(self) -> dict[str, Any]:
        """Return the result as one JSON object, for scripts."""
        data: dict[str, Any] = {
            "html": str(self.html),
            "json": str(self.json),
            "csv": str(self.csv),
            "runs": self.runs,
            "verdict": self.facts["verdict"],
            "warnings": self.facts["warnings"],
        }
        if self.best is not None:
            first = self.best.first
            data["run"] = first.id
            data["uri"] = first.uri or f"runs:/{first.id}"
            data["metrics"] = {f"{self.facts['split']['name']}/miou": self.best.miou}
        return data


@dataclass(frozen=True)
class Content:
    """The content of a report, before it is written.

    Attributes:
        html: the page.
        facts: the content of the JSON file.
        candidates: highest mIoU first.
    """

    html: str
    facts: Mapping[str, Any]
    candidates: Sequence[Candidate]


def compare(  # 8 parameters: those of the public API
    store: Store,
    names: Sequence[str],
    output: Path | None = None,
    baseline: str | None = None,
    split: str = "val",
    storage: str | None = None,
    plan: float | None = None,
    image_table: Path | None = None,
) -> Report:
    """Compare the trials of sweeps, single runs and registered versions.

    Args:
        output: folder of the report; by default `reports/NAME` in the store's root.
        baseline: name or run id of the candidate that the others are compared with; by default the
            first of two named candidates, otherwise the best.
        storage: address of the sweep's study, if the store does not know it.
        plan: a difference in points of mIoU; the verdict then says how many seeds or images show
            it.
        image_table: CSV file of properties of the split's images; the report shows the mIoU of
            each value.

    Raises:
        ConfigError: there is nothing to compare or to plan, or the runs cannot be compared; see
            `collect`.
        DataError: `image_table` is no table of images.
        StorageError: the report cannot be written.
    """
    content = compared(store, names, baseline, split, storage, plan, image_table)
    facts, candidates = content.facts, content.candidates
    folder = output or store.root / "reports" / folder_name(*names)
    files = {
        "index.html": content.html,
        "report.json": to_json(facts, indent=1, ensure_ascii=False),
        "runs.csv": runs_csv(facts),
    }
    if candidates:
        files["README.md"] = card_text(facts, facts["candidates"][0])
    write_files(folder, files)
    best = candidates[0] if candidates else None
    return Report(folder / "index.html", folder / "report.json", folder / "runs.csv", facts, best)


def compared(
    store: Store,
    names: Sequence[str],
    baseline: str | None = None,
    split: str = "val",
    storage: str | None = None,
    plan: float | None = None,
    image_table: Path | None = None,
) -> Content:
    """Compare as `compare` does, and write nothing; arguments and errors are those of `compare`."""
    comparison = collect(store, names, split)
    candidates = comparison.candidates
    base = _baseline(candidates, names, baseline)
    if plan is not None:
        _check_plan(comparison, plan)
    is_named = baseline is not None or len(names) == len(candidates) == 2
    share = None if plan is None else plan / 100
    facts = gather(store, comparison, names, base if is_named else None, share)
    facts["next"] = _next_steps(store, comparison, facts)
    facts["differs"] = differing_settings(store, candidates[:_MOST_DIFFERING])
    history = sweep_history(store, comparison, storage)
    if history.problem:
        facts["warnings"].append(history.problem)
    page = comparison_page(store, comparison, facts, base, history, image_table)
    return Content(page, facts, candidates)


def _check_plan(comparison: Comparison, plan: float) -> None:
    if not 0 < plan <= 100:
        raise ConfigError(
            f"plan={plan:g}: give a difference in points of mIoU, above 0, up to 100."
        )
    candidates = len(comparison.candidates)
    if candidates < 2:
        raise ConfigError(
            f"plan={plan:g} needs two candidates with evidence, but there are {candidates}: the "
            "plan rests on the variance of their difference."
        )
    groups = comparison.groups
    if groups and len(set(groups)) == 1:
        raise ConfigError(
            f"plan={plan:g}: all images are in one group, so the variance of the difference is "
            "unknown. Measure on a split with several groups."
        )


def _next_steps(
    store: Store, comparison: Comparison, facts: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Return commands for the best candidate, each with its purpose."""
    if not comparison.candidates:
        return []
    best, tracking = comparison.candidates[0].first, store.tracking
    steps = {}
    if len(comparison.sweeps) == 1:
        confirm = command("confirm", comparison.sweeps[0], tracking=tracking)
        steps["Retrain the best configurations with new seeds"] = confirm
    if not advice_on_test_split(store, best.id):
        steps["Measure the best on the test split"] = evaluate_command(store, best, "test")
    if not best.uri:  # otherwise it is registered, and its run was removed
        promote = command("promote", best.id, model=facts["split"]["dataset"], tracking=tracking)
        steps["Register the best, if it passes the gate"] = promote
    steps["Apply the best to images"] = predict_command(store, best.uri or f"runs:/{best.id}")
    return [{"what": purpose, "command": line} for purpose, line in steps.items()]


def _baseline(
    candidates: Sequence[Candidate], names: Sequence[str], baseline: str | None
) -> Candidate | None:
    if not candidates:
        return None
    if baseline is None:
        baseline = names[0] if len(names) == len(candidates) == 2 else candidates[0].name
    baseline = baseline.removeprefix("runs:/")
    for candidate in candidates:
        if baseline == candidate.name:
            return candidate
        if any(r.id.startswith(baseline) or r.name == baseline for r in candidate.runs):
            return candidate
    if baseline == names[0]:  # a sweep or a version, and one of its candidates is left
        return candidates[0]
    suggestion = nearest(baseline, [c.name for c in candidates])
    raise ConfigError(f"baseline={baseline}: no such candidate; {suggestion}")
