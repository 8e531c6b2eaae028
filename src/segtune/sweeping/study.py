"""The shared study: trials are claimed one by one under a lease, so that the total is exact whatever dies.

A trial whose lease ran out, or whose process is gone, is failed and enqueued again with the run that it had begun, by
whichever worker looks first. Who lost a trial that way finds it finished and can write no more about it: completing a
trial is compare-and-set in the storage.
"""

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from segtune.config.commands import command
from segtune.config.renamed import current_word
from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError, LeaseLost, SegtuneError
from segtune.sweeping.budget import Budget, trial_seconds
from segtune.sweeping.dimensions import draw
from segtune.sweeping.identity import differences
from segtune.sweeping.lease import identify, is_over
from segtune.sweeping.records import (
    DIVERGED,
    ERROR,
    FOLDER,
    LEASE,
    OVERRIDES,
    RETRIED,
    RETRY_OF,
    RUN,
    SECONDS,
    WORDS,
    Counts,
    count,
    counted_trials,
    last_line,
)
from segtune.sweeping.samplers import build_pruner, build_sampler
from segtune.sweeping.space import Space
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.storage import open_storage

_ATTEMPT, _REACHED = "attempt", "reached"
SPEC = "spec"
_STOP, _IDENTITY, _DRIFT, _EXHAUSTED = "stop", "identity", "drift", "exhausted"
_SAME_ERRORS = 5
_NEW_PROPOSALS = 20  # of the sampler, before the space is gone through for what was not tried yet


@dataclass(frozen=True)
class Claim:
    """A trial to run.

    Attributes:
        run: id of the run that an earlier attempt began; None for the first one.
        space: with the names that the study records its parameters under.
    """

    trial: optuna.Trial
    overrides: list[str]
    run: str | None
    space: Space


class SweepStudy:
    """A sweep's study, as one process sees it.

    Raises:
        StorageError: its storage cannot be read, written or reached.
    """

    def __init__(self, folder: Path, spec: SweepSpec) -> None:
        self.folder, self.spec = folder, spec
        self.holder = identify()
        self._begun: dict[int, float] = {}
        self._read: set[int] = set()
        self._distributions: dict[str, list[BaseDistribution]] = {}
        self.storage = open_storage(folder, spec.storage, spec.name)
        with self.storage.exclusive():
            self.study = optuna.create_study(
                study_name=spec.name,
                storage=self.storage.optuna,
                direction="maximize",
                load_if_exists=True,
                sampler=build_sampler(spec, 0),
                pruner=build_pruner(spec),
            )
        self.budget = Budget(self.study, spec.lease)

    @property
    def dataset(self) -> str | None:
        """Fingerprint of the data that the trials are to see; None where the study was never started by a launcher."""
        found = self.study.user_attrs.get(_IDENTITY, {}).get("dataset")
        return None if found is None else str(found)

    def check_identity(self, facts: Mapping[str, Any]) -> None:
        """Refuses to go on with a study that asked another question, or asked it of other data or other code.

        A refusal leaves the study as it was.

        Args:
            facts: what else has to stay the same, such as the dataset's fingerprint and our version.

        Raises:
            ConfigError: naming what differs; with `sweep.allow_drift` the study records it and goes on.
        """
        mine = json.loads(json.dumps({**self.spec.identity(), **facts}))
        with self.storage.exclusive():
            known = self.study.user_attrs.get(_IDENTITY)
            changed = [] if known is None else differences(known, mine)
            if changed and not self.spec.allow_drift:
                raise ConfigError(
                    f"sweep '{self.spec.name}' was started with another configuration: {'; '.join(changed)}. "
                    "Change it back, give the new question its own name with sweep.name=…, or go on all the same, on "
                    "the record, with sweep.allow_drift=true. (n_trials, budget, workers and enqueue may change.)"
                )
            if changed:
                past = self.study.user_attrs.get(_DRIFT, [])
                drift = {"after_trial": len(self._trials()), "changed": changed}
                self.study.set_user_attr(_DRIFT, [*past, drift])
            if mine != known:
                self.study.set_user_attr(_IDENTITY, mine)

    def command(self, verb: str) -> str:
        """A command that steers this sweep from another shell."""
        tracking = TrackingConfig(root=str(self.folder.parent.parent))
        return command(verb, self.spec.name, tracking=tracking)

    def claim(self, space: Space) -> Claim | None:
        """The next trial to run, an interrupted one first; None when no trial is left to start.

        No configuration is given out twice.

        Raises:
            SegtuneError: five trials in a row failed with the same error.
        """
        with self.storage.exclusive():
            self._recover()
            self._count_time()
            self._check_errors()
            counts = self.counts()
            if self.stop_asked():
                return None
            if not counts.waiting and self._is_total(counts):
                return None
            if not counts.waiting and self._is_spent():
                self._end()
                return None
            return self._ask(space.beside(self._recorded()))

    def _ask(self, space: Space) -> Claim | None:
        tried = {
            tuple(current_word(o) for o in t.user_attrs[OVERRIDES])
            for t in self._trials()
            if OVERRIDES in t.user_attrs
        }
        for proposal in range(_NEW_PROPOSALS + 1):
            if not any(t.state == TrialState.WAITING for t in self._trials()):
                params = space.next_enqueued(tried)
                if params is None and (self.spec.sampler == "grid" or proposal == _NEW_PROPOSALS):
                    params = space.untried(tried)
                    if params is None:  # all of a finite space was tried
                        self._end()
                        return None
                if params is not None:
                    self.study.enqueue_trial(params)
            self.study.sampler = build_sampler(self.spec, len(self._trials()))
            trial = self.study.ask()
            self._begun[trial.number] = time.monotonic()
            expires = self.storage.now() + self.spec.lease
            trial.set_user_attr(LEASE, {**self.holder, "expires": expires})
            earlier = trial.user_attrs.get(OVERRIDES)
            if earlier is not None:
                self._restore(trial)
                words = [current_word(o) for o in earlier]
                return Claim(trial, words, trial.user_attrs.get(RUN), space)
            overrides = space.propose(trial)
            if tuple(overrides) not in tried:
                trial.set_user_attr(OVERRIDES, overrides)
                return Claim(trial, overrides, None, space)
            trial.set_user_attr(RETRIED, True)  # proposed before: it does not count
            self.study.tell(trial, state=TrialState.FAIL)
        return None

    def _end(self) -> None:
        """Marks the sweep as at its end, though its total is not reached."""
        if not self.study.user_attrs.get(_EXHAUSTED, False):
            self.study.set_user_attr(_EXHAUSTED, True)

    def _restore(self, trial: optuna.Trial) -> None:
        """Gives a new attempt the parameters and the learning curve of the one before."""
        before = self._trials()[trial.user_attrs[RETRY_OF]]
        fixed = self._trials()[trial.number].system_attrs.get("fixed_params", {})
        for name, distribution in before.distributions.items():
            if name in fixed:
                draw(trial, name, distribution)
        if RUN in trial.user_attrs:
            for epoch, value in sorted(before.intermediate_values.items()):
                trial.report(value, epoch)

    def _recorded(self) -> dict[str, list[BaseDistribution]]:
        """Parameter -> what the trials so far drew it from."""
        for trial in self._trials():
            if trial.number not in self._read:
                for name, distribution in trial.distributions.items():
                    known = self._distributions.setdefault(name, [])
                    if distribution not in known:
                        known.append(distribution)
                if trial.state.is_finished():
                    self._read.add(trial.number)
        return self._distributions

    def is_complete(self) -> bool:
        """Whether nothing is left to do: the total is reached, or the budget spent, and no trial is under way."""
        counts = self.counts()
        over = (
            self._is_total(counts)
            or self._is_spent()
            or self.study.user_attrs.get(_EXHAUSTED, False)
        )
        return bool(over) and counts.claimed == counts.done

    def begin(self, words: Sequence[str] = ()) -> None:
        """Starts a session: takes back that the sweep was asked to stop, and counts the budget's time from now on.

        Args:
            words: that the sweep was started with: its file and the overrides.
        """
        self.ask_to_stop(False)
        self.study.set_user_attr(_EXHAUSTED, False)
        self.study.set_user_attr(SPEC, self.spec.shareable())
        self.study.set_user_attr(WORDS, list(words) or [self.spec.name])
        self.study.set_user_attr(FOLDER, os.getcwd())  # the words may name paths relative to it
        if self.spec.budget is not None:
            with self.storage.exclusive():
                self._recover()
                self.budget.begin(self.storage.now())

    def spent(self) -> float:
        """Seconds of the budget in which a worker lived."""
        return self.budget.spent()

    def show_life(self) -> None:
        """Tells that a worker of this process is alive; its time counts against the budget."""
        if self.spec.budget is not None:
            with self.storage.exclusive():
                self._count_time()

    def _count_time(self) -> None:
        if self.spec.budget is not None:
            self.budget.sign_of_life(self.storage.now())

    def trial_seconds(self) -> float | None:
        """Mean duration of the trials that finished at their first attempt; None before the first."""
        found = trial_seconds(self.study)
        return sum(found) / len(found) if found else None

    def _is_total(self, counts: Counts) -> bool:
        return self.spec.n_trials is not None and counts.claimed >= self.spec.n_trials

    def _is_spent(self) -> bool:
        """Whether one more trial would end further from the budget than no more."""
        if self.spec.budget_seconds is None:
            return False
        return self.budget.spent() + (self.trial_seconds() or 0.0) / 2 >= self.spec.budget_seconds

    def finish(
        self, trial: optuna.Trial, value: float | None = None, state: TrialState | None = None
    ) -> None:
        """Ends a trial, if it is still this worker's.

        Raises:
            LeaseLost: another worker has it.
        """
        try:
            begun = self._begun.pop(trial.number, None)
            if begun is not None:
                trial.set_user_attr(SECONDS, time.monotonic() - begun)
            self.study.tell(trial, value, state)
        except (UpdateFinishedTrialError, ValueError) as error:
            if not self._trials()[trial.number].state.is_finished():
                raise
            raise LeaseLost(
                f"trial {trial.number} was taken over by another worker; this one leaves it."
            ) from error

    def release(self, trial: optuna.Trial) -> None:
        """Gives an interrupted trial back: it is waiting, to be resumed where it was."""
        with self.storage.exclusive():
            frozen = self._trials()[trial.number]
            if frozen.state == TrialState.RUNNING:
                self._requeue(frozen, died=False)

    def replace(
        self, trial: optuna.Trial, overrides: list[str], params: Mapping[str, Any], error: str
    ) -> None:
        """Fails a trial and enqueues another configuration in its place."""
        with self.storage.exclusive():
            attrs = {OVERRIDES: overrides, RETRY_OF: trial.number, "replaces": error}
            self.study.enqueue_trial(dict(params), user_attrs=attrs)
            trial.set_user_attr(ERROR, error)
            trial.set_user_attr(RETRIED, True)
            self.finish(trial, state=TrialState.FAIL)

    def retry_failed(self) -> int:
        """Enqueues every failed trial again; returns how many."""
        with self.storage.exclusive():
            failed = [
                t
                for t in self.counted()
                if t.state == TrialState.FAIL and OVERRIDES in t.user_attrs
            ]
            for trial in failed:
                self._enqueue_again(trial, attempt=0)
            past = self.study.user_attrs.get(
                RETRIED, []
            )  # a finished trial's own attributes cannot be changed
            self.study.set_user_attr(RETRIED, sorted({*past, *(t.number for t in failed)}))
        return len(failed)

    def ask_to_stop(self, wanted: bool = True) -> None:
        """Asks all workers, on every machine, to return their unfinished trials to the queue and end."""
        self.study.set_user_attr(_STOP, wanted)

    def stop_asked(self) -> bool:
        """Whether the sweep was asked to stop."""
        return bool(self.study.user_attrs.get(_STOP, False))

    def counts(self) -> Counts:
        """What became of the trials so far."""
        return count(self.study)

    def recover(self) -> None:
        """Enqueues again what nobody works on any more."""
        with self.storage.exclusive():
            self._recover()

    def _recover(self) -> None:
        now = self.storage.now()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if is_over(trial.user_attrs.get(LEASE), now):
                self._requeue(trial, died=True)

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def counted(self) -> list[FrozenTrial]:
        """Every trial but those that another attempt has replaced."""
        return counted_trials(self.study)

    def _requeue(self, trial: FrozenTrial, died: bool) -> None:
        """Fails an attempt and enqueues the next; a trial that dies again and again where it is stays failed.

        The next one is enqueued first: whoever is killed in between leaves nothing that is lost or done twice.
        """
        reached = max(trial.intermediate_values, default=-1)
        advanced = reached > int(trial.user_attrs.get(_REACHED, -1))
        attempt = (0 if advanced else int(trial.user_attrs.get(_ATTEMPT, 0))) + died
        again = attempt <= self.spec.max_retries
        if again:
            self._enqueue_again(trial, attempt)
        storage, trial_id = self.study._storage, trial._trial_id
        storage.set_trial_user_attr(trial_id, RETRIED, again)
        if not again:
            storage.set_trial_user_attr(
                trial_id, ERROR, f"its worker died {attempt} times at epoch {reached + 1}"
            )
        self.study.tell(trial.number, state=TrialState.FAIL)

    def _enqueue_again(self, trial: FrozenTrial, attempt: int) -> None:
        if any(t.user_attrs.get(RETRY_OF) == trial.number for t in self._trials()):
            return
        carried = {k: v for k, v in trial.user_attrs.items() if k in (RUN, OVERRIDES)}
        reached = max(trial.intermediate_values, default=-1)
        attrs = {**carried, _ATTEMPT: attempt, RETRY_OF: trial.number, _REACHED: reached}
        self.study.enqueue_trial(
            trial.params or trial.system_attrs.get("fixed_params", {}), user_attrs=attrs
        )

    def _check_errors(self) -> None:
        ended = [t for t in self.counted() if t.state.is_finished()]
        ended.sort(key=lambda t: t.datetime_complete.timestamp() if t.datetime_complete else 0.0)
        last = [_signature(t) for t in ended[-_SAME_ERRORS:]]
        if len(last) == _SAME_ERRORS and last[0] is not None and len(set(last)) == 1:
            raise SegtuneError(
                f"sweep '{self.spec.name}': the last {_SAME_ERRORS} trials failed with the same error, and so would "
                f"the next: {last_line(ended[-1])} When it is mended: {self.command('retry')}"
            )


def _signature(trial: FrozenTrial) -> str | None:
    """What makes two errors the same: their last line, whatever numbers it names; None for no error.

    A loss that diverged says something about the configuration, not about the sweep.
    """
    if ERROR not in trial.user_attrs or trial.user_attrs.get(DIVERGED):
        return None
    return re.sub(r"\d+", "#", last_line(trial))
