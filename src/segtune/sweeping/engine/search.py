"""Search for the best value of any function: workers pull trials until the total is reached."""

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from segtune.errors import ConfigError, Interrupted, PartialError, SegtuneError
from segtune.runtime.log import Log, to_stderr
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.children import supervise
from segtune.sweeping.engine.objective import Objective, run_objective
from segtune.sweeping.engine.pulling import pull_trials
from segtune.sweeping.engine.records import OVERRIDES, RUN, Counts, last_line
from segtune.sweeping.engine.search_settings import SearchSettings
from segtune.sweeping.engine.search_space import check_size, flat_space
from segtune.sweeping.engine.space import FlatSpace
from segtune.sweeping.engine.study import SweepStudy


class SearchStopped(SegtuneError):
    """A worker met a fault of every trial, and printed it."""

    def __init__(self, code: int) -> None:
        super().__init__("the search stopped: a worker met the fault above.")
        self.exit_code = code


@dataclass(frozen=True)
class TrialResult:
    """A trial that has ended.

    Attributes:
        number: of the trial, from 0; attempts at one trial share it.
        state: `complete`, `pruned` or `fail`.
        values: one for each direction; empty if the trial did not finish.
        params: the searched values by their key.
        checkpoint: folder with the files that the trial kept there.
        error: last line of the error of a failed trial.
    """

    number: int
    state: str
    values: tuple[float, ...]
    overrides: tuple[str, ...]
    params: Mapping[str, Any]
    checkpoint: Path
    error: str = ""

    @property
    def value(self) -> float:
        """The first value; nan if the trial did not finish."""
        return self.values[0] if self.values else math.nan


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        trials: all trials that ended, by their number.
        front: the finished trials that no other beats in every direction; for one direction, the
            best trial alone.
    """

    name: str
    counts: Counts
    trials: tuple[TrialResult, ...]
    front: tuple[TrialResult, ...]

    @property
    def best(self) -> TrialResult:
        """The best trial; the best in the first direction if there are several."""
        return self.front[0]


def run(
    objective: Objective,
    search: Mapping[str, Any],
    settings: SearchSettings,
    say: Log = to_stderr,
) -> SearchResult:
    """Search for the best value of a function; a search that was interrupted continues.

    Args:
        objective: takes a Trial and returns a number, or one for each direction. It runs in
            processes that are forked from this one.
        search: key -> a list of choices, or {min, max, step, log}, as in a sweep file.
        say: prints a line.

    Raises:
        ConfigError: a wrong key or value, or a search that was begun with another question.
        Interrupted: stopped by Ctrl-C or SIGTERM; the same call continues.
        PartialError: the workers died too often to reach the total.
        SegtuneError: no trial finished, or five in a row failed with the same error.
    """
    return run_space(objective, flat_space(search, settings.overrides), settings, say=say)


def run_space(
    objective: Objective,
    space: FlatSpace,
    settings: SearchSettings,
    facts: Mapping[str, Any] | None = None,
    say: Log = to_stderr,
) -> SearchResult:
    """Search a space; see `run`.

    Args:
        facts: further values that must stay the same when the search is resumed.
    """
    settings = replace(settings, n_trials=check_size(space, settings, say))
    study = SweepStudy(Path(settings.folder).absolute(), settings)
    ranges = [dimension.describe() for dimension in space.dimensions]
    study.check_identity({"space": ranges, **(facts or {})})
    study.begin()
    if settings.retry_failed:
        study.retry_failed()
    study.recover()
    counts = study.counts()
    say(f"sweep {settings.name}: {counts.done} of {settings.n_trials} trials done, {study.folder}")
    if not study.is_complete():
        _work(objective, space, study, say)
    return _result(study, space)


def _work(
    objective: Objective, space: FlatSpace, study: SweepStudy[SearchSettings], say: Log
) -> None:
    stop, settings = StopRequest(), study.spec
    try:
        with stop.listening():
            if settings.workers == 0:
                _pull(study, space, objective, stop, say, lambda: None)
                return
            _check_cuda()
            pull = partial(_pull_in_child, study.folder, settings, space, objective, stop, say)
            code = supervise(settings.workers, lambda _: pull, stop, say)
    except Interrupted:
        code = Interrupted.exit_code
    finally:
        study.recover()
    if code == Interrupted.exit_code:
        raise Interrupted(
            f"sweep {settings.name} was stopped with {study.counts().to_json()}. The same command "
            "continues it."
        )
    if code:
        raise SearchStopped(code)


def _check_cuda() -> None:
    """Refuse to fork a process that uses a GPU: CUDA fails in the children.

    Raises:
        ConfigError: CUDA is in use in this process.
    """
    torch = sys.modules.get("torch")  # no import: a function may need no torch
    if torch is not None and torch.cuda.is_initialized():
        raise ConfigError(
            "CUDA is in use in this process, and works in no process that is forked from it. Use "
            "the GPU only inside the objective, or set the number of workers to 0."
        )


def _pull_in_child(  # the arguments of `_pull`, and what only a child needs
    folder: Path,
    settings: SearchSettings,
    space: FlatSpace,
    objective: Objective,
    stop: StopRequest,
    say: Log,
    on_claim: Callable[[], None],
) -> None:
    os.setsid()  # Ctrl-C reaches a child once, through the parent
    _pull(SweepStudy(folder, settings), space, objective, stop, say, on_claim)


def _pull(
    study: SweepStudy[SearchSettings],
    space: FlatSpace,
    objective: Objective,
    stop: StopRequest,
    say: Log,
    on_claim: Callable[[], None],
) -> None:
    pull_trials(
        study,
        space,
        lambda claim: run_objective(study, claim, objective, stop, say),
        stop,
        on_claim,
    )


def _result(study: SweepStudy[SearchSettings], space: FlatSpace) -> SearchResult:
    settings, counts = study.spec, study.counts()
    frozen = [trial for trial in study.counted() if trial.state.is_finished()]
    if not counts.finished:
        failed = [trial for trial in frozen if trial.state == TrialState.FAIL]
        error = f" The last error: {last_line(failed[-1])}" if failed else ""
        raise SegtuneError(
            f"sweep {settings.name}: none of {counts.done} trials finished ({counts.to_json()})."
            f"{error}"
        )
    if not study.is_complete():
        raise PartialError(
            f"sweep {settings.name} ended with {counts.done} trials of {settings.n_trials}: its "
            "workers died too often."
        )
    trials = {trial.number: _trial_result(study, space, trial) for trial in frozen}
    front = [trials[trial.number] for trial in _best(study)]
    sign = -1 if settings.directions[0] == "maximize" else 1
    front.sort(key=lambda trial: sign * trial.value)
    ordered = sorted(trials.values(), key=lambda trial: trial.number)
    return SearchResult(settings.name, counts, tuple(ordered), tuple(front))


def _best(study: SweepStudy[SearchSettings]) -> Iterable[FrozenTrial]:
    if len(study.spec.directions) == 1:
        return [study.study.best_trial]
    return study.study.best_trials


def _trial_result(
    study: SweepStudy[SearchSettings], space: FlatSpace, trial: FrozenTrial
) -> TrialResult:
    number = trial.user_attrs.get(RUN, str(trial.number))
    is_complete = trial.state == TrialState.COMPLETE
    return TrialResult(
        number=int(number),
        state=trial.state.name.lower(),
        values=tuple(trial.values or ()) if is_complete else (),
        overrides=tuple(trial.user_attrs.get(OVERRIDES, ())),
        params=space.values_of(trial.params),
        checkpoint=study.folder / "trials" / number,
        error=last_line(trial) if trial.state == TrialState.FAIL else "",
    )
