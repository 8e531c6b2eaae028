"""The shared study of a sweep: workers claim its trials one by one, each under a lease.

The total is exact even when workers die. A trial whose lease ran out, or whose process is gone, is
failed and enqueued again with the run that it began. The next worker that claims a trial does this.
A worker that lost its trial finds it finished and cannot write to it: the storage completes a trial
only once (compare-and-set).
"""

import os
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from segtune.errors import LeaseLost
from segtune.sweeping.engine.attempts import enqueue_again, requeue, restore
from segtune.sweeping.engine.budget import Budget, trial_seconds
from segtune.sweeping.engine.failures import check_repeated_error
from segtune.sweeping.engine.fidelity import Fidelity
from segtune.sweeping.engine.identity import check_identity, study_id
from segtune.sweeping.engine.lease import LeaseWatch, identify, new_lease
from segtune.sweeping.engine.records import (
    ERROR,
    FOLDER,
    GAINS_TOO_LITTLE,
    LEASE,
    OVERRIDES,
    RETRIED,
    RETRY_OF,
    RUN,
    SECONDS,
    SPEC,
    STOP,
    WORDS,
    Counts,
    count,
    counted_trials,
)
from segtune.sweeping.engine.samplers import build_pruner, build_sampler
from segtune.sweeping.engine.settings import StudySettings
from segtune.sweeping.engine.space import SearchSpace, SpaceT
from segtune.sweeping.engine.stopping import reason_to_stop
from segtune.sweeping.engine.storage import open_storage

SettingsT = TypeVar("SettingsT", bound=StudySettings)

_EXHAUSTED = "exhausted"
# after so many repeats by the sampler, the space itself is searched for a new configuration
_MAX_REPEATS = 20


@dataclass(frozen=True)
class Claim(Generic[SpaceT]):
    """A trial to run.

    Attributes:
        overrides: the configuration, as words of the command line.
        run: id of the run that an earlier attempt began; None for a first attempt.
        space: the search space, under the parameter names that the study records.
    """

    trial: optuna.Trial
    overrides: list[str]
    run: str | None
    space: SpaceT


class SweepStudy(Generic[SettingsT]):
    """The study of a sweep, as one process sees it.

    Args:
        folder: holds the journal file and the locks.

    Attributes:
        id: of the study. Its runs carry it as a tag, and no other run is ever changed.

    Raises:
        StorageError: the storage cannot be read, written or reached.
    """

    def __init__(self, folder: Path, spec: SettingsT) -> None:
        self.folder, self.spec = folder, spec
        self.holder = identify()
        self._claimed_at: dict[int, float] = {}
        self._read_trials: set[int] = set()
        self._distributions: dict[str, list[BaseDistribution]] = {}
        self.storage = open_storage(folder, spec.storage, spec.name)
        with self.storage.exclusive():
            self.study = optuna.create_study(
                study_name=spec.name,
                storage=self.storage.optuna,
                directions=list(spec.directions),
                load_if_exists=True,
                sampler=build_sampler(spec, 0),
                pruner=build_pruner(spec),
            )
            self.id = study_id(self.study, folder)
        self.budget = Budget(self.study, spec.lease)
        self.fidelity = Fidelity(self.study, spec)
        self._watch = LeaseWatch(spec.lease)

    def check_identity(self, facts: Mapping[str, Any]) -> None:
        """Refuse to continue a study whose question, data or code changed; see `identity`."""
        with self.storage.exclusive():
            check_identity(self.study, self.spec, facts)

    def begin(self, words: Sequence[str] = ()) -> None:
        """Start a session: withdraw an earlier stop request, and start to count the budget's time.

        Args:
            words: arguments of `segtune sweep`: the sweep's file and the overrides.
        """
        self.request_stop(False)
        self.study.set_user_attr(_EXHAUSTED, False)
        self.study.set_user_attr(GAINS_TOO_LITTLE, None)
        self.study.set_user_attr(SPEC, self.spec.shareable())
        self.study.set_user_attr(WORDS, list(words) or [self.spec.name])
        self.study.set_user_attr(FOLDER, os.getcwd())  # the words may name paths relative to it
        self._name_objectives()
        if self.spec.budget_seconds is not None:
            with self.storage.exclusive():
                self._recover()
                self.budget.begin(self.storage.now())

    def _name_objectives(self) -> None:
        """Name the values of the trials for optuna-dashboard and Optuna's own figures."""
        names = list(self.spec.objective_names)
        if names and self.study.metric_names != names:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self.study.set_metric_names(names)

    def claim(self, space: SpaceT) -> Claim[SpaceT] | None:
        """Return the next trial to run, or None if no trial is left to start.

        Interrupted trials come first. No configuration is handed out twice.

        Raises:
            SegtuneError: the last trials all failed with the same error.
        """
        with self.storage.exclusive():
            self._recover()
            self._count_time()
            retry = self.spec.retry_command(self.folder)
            check_repeated_error(self.counted(), self.spec.name, retry)
            counts = self.counts()
            if self.stop_requested():
                return None
            if not counts.waiting and not self._promote(counts) and self._is_at_end(counts):
                return None
            return self._claim_next(space.recordable(self._recorded_distributions()))

    def _claim_next(self, space: SpaceT) -> Claim[SpaceT] | None:
        tried = self._tried_configurations(space)
        for repeats in range(_MAX_REPEATS + 1):
            use_sampler = self.spec.sampler != "grid" and repeats < _MAX_REPEATS
            if not self._has_waiting() and not self._enqueue_next(space, tried, use_sampler):
                self._mark_exhausted()
                return None
            trial = self._start_trial(space)
            if OVERRIDES in trial.user_attrs:  # an earlier attempt recorded them
                restore(self.study, trial)
                overrides = space.current(trial.user_attrs[OVERRIDES])
                return Claim(trial, overrides, trial.user_attrs.get(RUN), space)
            overrides = space.propose(trial)
            if tuple(overrides) not in tried:
                trial.set_user_attr(OVERRIDES, overrides)
                return Claim(trial, overrides, None, space)
            trial.set_user_attr(RETRIED, True)  # a repeated proposal does not count as a trial
            self.study.tell(trial, state=TrialState.FAIL)
        return None

    def _enqueue_next(
        self, space: SearchSpace, tried: Collection[tuple[str, ...]], use_sampler: bool
    ) -> bool:
        """Enqueue the configuration to try next, unless the sampler is to propose it.

        Returns:
            False if every configuration of a finite space was tried.
        """
        params = space.next_enqueued(tried)
        if params is None and not use_sampler:
            params = space.untried(tried)
            if params is None:
                return False
        if params is not None:
            self.study.enqueue_trial(params)
        return True

    def _promote(self, counts: Counts) -> bool:
        """Enqueue a paused trial that is to go on; return whether there is one."""
        self.fidelity.measure()
        is_exhausted = bool(self.study.user_attrs.get(_EXHAUSTED, False))
        is_last = not counts.running and (is_exhausted or self._is_at_end(counts))
        return self.fidelity.promote(is_last, self._is_spent())

    def _is_at_end(self, counts: Counts) -> bool:
        """Return whether no further trial begins; record why, unless the total is reached."""
        if self._is_total(counts):
            return True
        reason = None if self.spec.gain_below is None else self.stopped_because()
        reason = reason or reason_to_stop(self.study, self.spec, self.fidelity.epochs())
        if reason is not None and self.stopped_because() is None:
            self.study.set_user_attr(GAINS_TOO_LITTLE, reason)
        if reason is None and not self._is_spent():
            return False
        self._mark_exhausted()
        return True

    def stopped_because(self) -> str | None:
        """Return why the sweep ended before its total, if `stop_when` ended it."""
        reason = self.study.user_attrs.get(GAINS_TOO_LITTLE)
        return None if reason is None else str(reason)

    def _start_trial(self, space: SearchSpace) -> optuna.Trial:
        """Take the next trial from Optuna, and put it under a lease of this process."""
        self.study.sampler = build_sampler(self.spec, len(self._trials()), space.prior)
        trial = self.study.ask()
        self._claimed_at[trial.number] = time.monotonic()
        trial.set_user_attr(LEASE, new_lease(self.holder))
        self.fidelity.mark(trial)
        return trial

    def finish(
        self,
        trial: optuna.Trial,
        value: float | Sequence[float] | None = None,
        state: TrialState | None = None,
    ) -> None:
        """End a trial, with a value for each direction if it finished.

        Raises:
            LeaseLost: another worker took the trial over.
        """
        try:
            claimed_at = self._claimed_at.pop(trial.number, None)
            if claimed_at is not None:
                trial.set_user_attr(SECONDS, time.monotonic() - claimed_at)
            self.study.tell(trial, value, state)
        except (UpdateFinishedTrialError, ValueError) as error:
            if not self._trials()[trial.number].state.is_finished():
                raise
            raise LeaseLost(
                f"trial {trial.number} was taken over by another worker; this one leaves it."
            ) from error

    def release(self, trial: optuna.Trial) -> None:
        """Return an interrupted trial to the queue; its next attempt resumes its run."""
        with self.storage.exclusive():
            frozen = self._trials()[trial.number]
            if frozen.state == TrialState.RUNNING:
                requeue(self.study, frozen, self.spec.max_retries, worker_died=False)

    def replace(
        self, trial: optuna.Trial, overrides: list[str], params: Mapping[str, Any], error: str
    ) -> None:
        """Fail a trial, and enqueue another configuration in its place."""
        with self.storage.exclusive():
            attrs = {OVERRIDES: overrides, RETRY_OF: trial.number, "replaces": error}
            self.study.enqueue_trial(dict(params), user_attrs=attrs)
            trial.set_user_attr(ERROR, error)
            trial.set_user_attr(RETRIED, True)
            self.finish(trial, state=TrialState.FAIL)

    def retry_failed(self) -> int:
        """Enqueue every failed trial again; return their number."""
        with self.storage.exclusive():
            failed = [
                trial
                for trial in self.counted()
                if trial.state == TrialState.FAIL and OVERRIDES in trial.user_attrs
            ]
            for trial in failed:
                enqueue_again(self.study, trial, attempt=0)
            # attributes of a finished trial are read-only, so the study keeps this list
            retried = {*self.study.user_attrs.get(RETRIED, []), *(t.number for t in failed)}
            self.study.set_user_attr(RETRIED, sorted(retried))
        return len(failed)

    def request_stop(self, requested: bool = True) -> None:
        """Ask the workers on all machines to return their trials to the queue and to end."""
        self.study.set_user_attr(STOP, requested)

    def stop_requested(self) -> bool:
        """Return whether the workers were asked to end."""
        return bool(self.study.user_attrs.get(STOP, False))

    def recover(self) -> None:
        """Enqueue the running trials again whose worker is gone."""
        with self.storage.exclusive():
            self._recover()

    def _recover(self) -> None:
        self.fidelity.list_promoted()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._watch.is_over(trial.number, trial.user_attrs.get(LEASE)):
                requeue(self.study, trial, self.spec.max_retries, worker_died=True)

    def counts(self) -> Counts:
        """Return the number of trials in each state."""
        return count(self.study)

    def counted(self) -> list[FrozenTrial]:
        """Return all trials except those that another attempt replaced."""
        return counted_trials(self.study)

    def is_complete(self) -> bool:
        """Return whether the total is reached or the budget spent, and no trial is unfinished."""
        counts = self.counts()
        at_end = (
            self._is_total(counts)
            or self._is_spent()
            or self.study.user_attrs.get(_EXHAUSTED, False)
        )
        is_done = bool(at_end) and counts.claimed == counts.done
        return is_done and not self.fidelity.is_pending(self._is_spent())

    def spent(self) -> float:
        """Return the seconds of the budget in which a worker was alive."""
        return self.budget.spent()

    def report_alive(self) -> None:
        """Record that a worker of this process is alive; its time counts against the budget."""
        if self.spec.budget_seconds is not None:
            with self.storage.exclusive():
                self._count_time()

    def trial_seconds(self) -> float | None:
        """Return the mean duration of the trials that finished at their first attempt, if any."""
        durations = trial_seconds(self.study)
        return sum(durations) / len(durations) if durations else None

    def _count_time(self) -> None:
        if self.spec.budget_seconds is not None:
            self.budget.sign_of_life(self.storage.now())

    def _is_total(self, counts: Counts) -> bool:
        return self.spec.n_trials is not None and counts.claimed >= self.spec.n_trials

    def _is_spent(self) -> bool:
        """Return whether another trial would end further from the budget than the sweep is now."""
        if self.spec.budget_seconds is None:
            return False
        return self.budget.spent() + (self.trial_seconds() or 0.0) / 2 >= self.spec.budget_seconds

    def _mark_exhausted(self) -> None:
        """Record that the sweep is at its end although its total is not reached."""
        if not self.study.user_attrs.get(_EXHAUSTED, False):
            self.study.set_user_attr(_EXHAUSTED, True)

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _has_waiting(self) -> bool:
        return any(trial.state == TrialState.WAITING for trial in self._trials())

    def _tried_configurations(self, space: SearchSpace) -> set[tuple[str, ...]]:
        configurations = set()
        for trial in self._trials():
            words = trial.user_attrs.get(OVERRIDES)
            if words is not None:
                configurations.add(tuple(space.current(words)))
        return configurations

    def _recorded_distributions(self) -> dict[str, list[BaseDistribution]]:
        """Return for each parameter the distributions from which trials drew it."""
        for trial in self._trials():
            if trial.number in self._read_trials:  # finished, so it cannot change any more
                continue
            for name, distribution in trial.distributions.items():
                recorded = self._distributions.setdefault(name, [])
                if distribution not in recorded:
                    recorded.append(distribution)
            if trial.state.is_finished():
                self._read_trials.add(trial.number)
        return self._distributions
