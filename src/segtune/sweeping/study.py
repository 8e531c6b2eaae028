"""The shared study: trials are claimed one by one, so that the total is exact whatever dies and is started again.

A worker holds an operating-system lock while it lives; the kernel releases it on any kind of death. A RUNNING trial
whose worker's lock is free is failed and enqueued again with the run that it had begun.
"""

import json
import logging
import math
import os
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from segtune.errors import ConfigError, StorageError
from segtune.sweeping.spec import SweepSpec

optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("optuna").setLevel(logging.WARNING)

_WORKER, _RETRIED, _ATTEMPT = "worker", "retried", "attempt"
RUN = "run"


@dataclass(frozen=True)
class Counts:
    """Trials by what became of them; retried attempts are not counted."""

    finished: int
    pruned: int
    failed: int
    running: int
    waiting: int

    @property
    def claimed(self) -> int:
        """How much of the total is spoken for."""
        return self.finished + self.pruned + self.failed + self.running + self.waiting

    def to_json(self) -> dict[str, int]:
        """Plain data."""
        return {n: getattr(self, n) for n in ("finished", "pruned", "failed", "running", "waiting")}


class SweepStudy:
    """A sweep's study on disk, as one process sees it."""

    def __init__(self, folder: Path, spec: SweepSpec) -> None:
        self.folder, self.spec = folder, spec
        self.worker = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._claim = FileLock(folder / "claim.lock")
        self._alive = FileLock(folder / "workers" / f"{self.worker}.lock")
        self.study = self._open()

    def _open(self) -> optuna.Study:
        try:
            (self.folder / "workers").mkdir(parents=True, exist_ok=True)
            with self._claim:
                storage = JournalStorage(JournalFileBackend(str(self.folder / "journal.log")))
                study = optuna.create_study(
                    study_name=self.spec.name,
                    storage=storage,
                    direction="maximize",
                    load_if_exists=True,
                    sampler=self._sampler(0),
                    pruner=_pruner(self.spec),
                )
        except OSError as error:
            raise StorageError(f"the study in '{self.folder}' cannot be written: {error}. Set tracking.root.") from None
        except (ValueError, KeyError, json.JSONDecodeError) as error:
            raise StorageError(f"the study '{self.folder / 'journal.log'}' cannot be read: {error}.") from None
        return study

    def _sampler(self, started: int) -> optuna.samplers.BaseSampler:
        """Seeded by the trials started so far: neither a second worker nor a resumed sweep repeats a proposal."""
        seed = (self.spec.seed * 1_000_003 + started * 7919) % 2**32
        if self.spec.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        startup = max(4, min(10, self.spec.n_trials // 3))
        with warnings.catch_warnings():  # two of its options are called experimental since years
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True
            )

    def check_identity(self) -> None:
        """Refuses to go on with a study that asked another question.

        Raises:
            ConfigError: naming what differs.
        """
        known = self.study.user_attrs.get("identity")
        mine = json.loads(json.dumps(self.spec.identity()))
        if known is None:
            self.study.set_user_attr("identity", mine)
            return
        changed = [f"{k}: {known.get(k)} -> {v}" for k, v in mine.items() if known.get(k) != v]
        if changed:
            raise ConfigError(
                f"sweep '{self.spec.name}' was started with another configuration: {'; '.join(changed)}. "
                "Change it back, or give the new question its own name: sweep.name=…"
            )

    def start_work(self) -> None:
        """Shows this process as a living worker, until it ends."""
        self._alive.acquire(timeout=10)

    def end_work(self) -> None:
        """Takes the sign of life away."""
        self._alive.release()
        Path(self._alive.lock_file).unlink(missing_ok=True)

    def claim(self) -> optuna.Trial | None:
        """The next trial to run, an interrupted one first; None when the total is spoken for."""
        with self._claim:
            self._recover()
            counts = self.counts()
            if not counts.waiting and counts.claimed >= self.spec.n_trials:
                return None
            self.study.sampler = self._sampler(len(self.study.get_trials(deepcopy=False)))
            trial = self.study.ask()
            trial.set_user_attr(_WORKER, self.worker)
            return trial

    def release(self, trial: optuna.Trial) -> None:
        """Gives an interrupted trial back: it is waiting, to be resumed where it was."""
        with self._claim:
            self._requeue(self.study.get_trials(deepcopy=False)[trial.number], died=False)

    def counts(self) -> Counts:
        """What became of the trials so far."""
        states = {s: 0 for s in TrialState}
        for trial in self.study.get_trials(deepcopy=False):
            if not trial.user_attrs.get(_RETRIED):
                states[trial.state] += 1
        return Counts(
            finished=states[TrialState.COMPLETE],
            pruned=states[TrialState.PRUNED],
            failed=states[TrialState.FAIL],
            running=states[TrialState.RUNNING],
            waiting=states[TrialState.WAITING],
        )

    def _recover(self) -> None:
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not self._lives(trial.user_attrs.get(_WORKER)):
                self._requeue(trial, died=True)

    def _lives(self, worker: str | None) -> bool:
        if worker == self.worker:
            return True
        path = self.folder / "workers" / f"{worker}.lock"
        if worker is None or not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True

    def _requeue(self, trial: FrozenTrial, died: bool) -> None:
        """Fails the attempt and enqueues the next one; a trial whose workers died too often stays failed."""
        attempt = int(trial.user_attrs.get(_ATTEMPT, 0)) + died
        storage, trial_id = self.study._storage, trial._trial_id
        again = attempt <= self.spec.max_retries
        storage.set_trial_user_attr(trial_id, _RETRIED, again)
        self.study.tell(trial.number, state=TrialState.FAIL)
        if again:
            carried = {k: v for k, v in trial.user_attrs.items() if k in (RUN, "overrides")}
            params = trial.params or trial.system_attrs.get("fixed_params", {})
            self.study.enqueue_trial(params, user_attrs={**carried, _ATTEMPT: attempt})


def _pruner(spec: SweepSpec) -> optuna.pruners.BasePruner:
    if spec.pruner == "none":
        return optuna.pruners.NopPruner()
    if spec.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=spec.pruner_warmup, reduction_factor=2)
    return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=spec.pruner_warmup)


def importance(folder: Path, name: str) -> Mapping[str, float]:
    """Share of each searched parameter in the variance of mIoU (fANOVA, Hutter et al., 2014).

    Empty where fewer than four trials finished, or where they share no parameter.
    """
    study = load_study(folder, name)
    if study is None:
        return {}
    finished = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if len(finished) < 4:
        return {}
    try:
        found: dict[str, float] = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    except (ValueError, RuntimeError):
        return {}
    return {k: float(v) for k, v in found.items()}


def load_study(folder: Path, name: str) -> optuna.Study | None:
    """A sweep's study for reading; None where it was never started."""
    journal = folder / "journal.log"
    if not journal.is_file():
        return None
    storage = JournalStorage(JournalFileBackend(str(journal)))
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None


def trial_rows(study: optuna.Study) -> list[dict[str, Any]]:
    """Every counted trial as plain data: number, state, value, parameters and run."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if trial.user_attrs.get(_RETRIED):
            continue
        value = trial.value if trial.state == TrialState.COMPLETE and trial.value is not None else math.nan
        rows.append(
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "miou": value,
                "params": dict(trial.params),
                "run": trial.user_attrs.get(RUN),
            }
        )
    return rows
