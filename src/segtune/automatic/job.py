"""The whole way: facts, decisions, sweep, final run, evaluation, promotion, report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from segtune.automatic.final import earlier_final, train_final
from segtune.automatic.planning import plan_sweep
from segtune.automatic.state import AutoState
from segtune.config.compose import Composed, compose
from segtune.config.schema import GateConfig
from segtune.data.sources import open_source
from segtune.errors import ConfigError, Interrupted
from segtune.evaluation.evaluate import evaluate_model
from segtune.report.card import keep_card
from segtune.report.compare import Report, compare
from segtune.runtime.log import Log
from segtune.sweeping.launch import SweepResult, run_sweep
from segtune.tracking.evidence import load_evidence
from segtune.tracking.promotion import Promotion, promote
from segtune.tracking.recorded import recorded_config
from segtune.tracking.runs import RunRecord, get_run, study_of
from segtune.tracking.store import Store, open_store

_WORTH_IT = 0.5  # of a trial's minutes; a shorter final run would not be better


@dataclass(frozen=True)
class AutoRequest:
    """What the user asked for.

    Attributes:
        words: overrides that choose the dataset, and any other keys of a run.
        name: of the sweep.
        model: registered name.
        command: that goes on after an interruption.
        started: when the call began, as `time.monotonic()`.
    """

    words: Sequence[str]
    minutes: float
    name: str
    model: str
    command: str
    gate: GateConfig
    started: float


@dataclass(frozen=True)
class AutoResult:
    """The result of `segtune auto`.

    Attributes:
        search: the finished sweep.
        final: the run with a fresh seed; None if there was no time for it.
        chosen: the better one of `final` and the search's best on val: the promoted run.
        seconds: of all calls together.
    """

    sweep_file: Path
    search: SweepResult
    final: RunRecord | None
    chosen: RunRecord
    promotion: Promotion
    report: Report
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "sweep_file": str(self.sweep_file),
            "search": self.search.to_json(),
            "final": self.final
            and {"run": self.final.id, "metrics": {"val/miou": self.final.miou}},
            "run": self.chosen.id,
            "uri": f"runs:/{self.chosen.id}",
            "metrics": {"val/miou": self.chosen.miou},
            "promotion": self.promotion.to_json(),
            "report": self.report.to_json(),
            "seconds": round(self.seconds, 1),
        }

    def lines(self) -> list[str]:
        """Return lines for people."""
        best, final = self.search.best, self.final
        lines = [f"search: {self.search.counts.finished} trials, best {best.name} {best.miou:.4f}"]
        if final is not None:
            lines.append(f"fresh seed, the time that was left: val mIoU {final.miou:.4f}")
        lines.append(f"chosen: {self.chosen.name} ({self.chosen.id}), {self.seconds:.0f} s in all")
        return [
            *lines,
            *self.promotion.lines(),
            f"report: {self.report.html}",
            f"sweep file, to edit and run again: {self.sweep_file}",
        ]


def run_auto(request: AutoRequest, say: Log) -> AutoResult:
    """Search, train, evaluate and promote a segmenter in the given minutes.

    The same request goes on after an interruption: trials and runs that finished stay.

    Raises:
        ConfigError: the minutes are too few, or the name belongs to another request.
        DataError: the dataset cannot be used.
        Interrupted: stopped by the user; the message holds the command that goes on.
    """
    store = open_store(compose(request.words).config.tracking)
    folder = store.root / "auto" / request.name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "auto.lock", timeout=0):
            return _locked(store, folder, request, say)
    except Timeout:
        raise ConfigError(
            f"another process works on '{folder}'; wait for it, or give another name: name=NAME."
        ) from None


def _locked(store: Store, folder: Path, request: AutoRequest, say: Log) -> AutoResult:
    state = AutoState(folder, request.words, request.minutes, request.started)
    sweep_file = folder / f"{request.name}.yaml"
    try:
        if not sweep_file.is_file():
            plan_sweep(request.words, request.minutes, state, sweep_file, say)
        state.save()
        search = run_sweep(str(sweep_file), [], say)
        state.save()
        return _finish(store, search, state, request, sweep_file, say)
    except Interrupted:
        raise Interrupted(f"{request.name} was stopped. Continue with: {request.command}") from None
    finally:
        if sweep_file.is_file():
            state.save()


def _finish(
    store: Store,
    search: SweepResult,
    state: AutoState,
    request: AutoRequest,
    sweep_file: Path,
    say: Log,
) -> AutoResult:
    """Train the final run if there is time, evaluate and promote the better one, and report."""
    composed = compose(request.words)
    final = _final_run(store, search, state, request, composed, say)
    chosen = search.best
    if final is not None and (final.miou or 0.0) >= (search.best.miou or 0.0):
        chosen = final
    say(f"chosen: {chosen.name}, val mIoU {chosen.miou:.4f}")
    dataset = open_source(recorded_config(store, chosen.id).dataset)
    if "test" in dataset.splits() and load_evidence(store, chosen, "test") is None:
        # without its overrides: the dataset is the one of the run, with its repairs and splits
        evaluate_model(replace(composed, overrides=()), chosen.id, "test", "auto", say)
        chosen = get_run(store, chosen.id)
    promotion = promote(store, chosen, request.model, request.gate)
    if promotion.split:
        keep_card(store, chosen, promotion.split)
    names = [search.name] + ([final.id] if final is not None else [])
    report = compare(store, names)
    return AutoResult(sweep_file, search, final, chosen, promotion, report, state.spent)


def _final_run(
    store: Store,
    search: SweepResult,
    state: AutoState,
    request: AutoRequest,
    composed: Composed,
    say: Log,
) -> RunRecord | None:
    """The run with a fresh seed; None if too little time is left for it."""
    study = study_of(store.root, search.name)
    assert study is not None  # the search has just ended
    minutes = (60.0 * request.minutes - state.spent - state.reserved) / 60.0
    earlier = earlier_final(store, study)
    if earlier is None and minutes < _WORTH_IT * search.best.seconds / 60.0:
        say(f"{max(0.0, minutes):.2g} minutes are left: too few for a run with a fresh seed")
        return None
    trainer = composed.config.trainer
    return train_final(store, study, search.best, max(minutes, 0.1), trainer, say)
