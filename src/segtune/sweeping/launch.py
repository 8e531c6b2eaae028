"""Starts, joins or resumes a sweep: the study is checked, workers pull its trials, and the result is settled."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.trial import TrialState

from segtune.config.commands import command, in_folder
from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.data.sources import open_source
from segtune.errors import ConfigError, Interrupted, PartialError, SegtuneError, StorageError
from segtune.runtime.log import Log
from segtune.runtime.retry import with_backoff
from segtune.sweeping.identity import facts_of
from segtune.sweeping.launchers import LAUNCHERS, SweepStopped
from segtune.sweeping.location import remember, remembered, sweep_folder, without_password
from segtune.sweeping.panel import live_panel
from segtune.sweeping.progress import Progress, progress
from segtune.sweeping.records import RUN, Counts, front, load_study, run_states
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space, compose_trial
from segtune.sweeping.spec import SweepSpec, load_spec
from segtune.sweeping.study import SweepStudy
from segtune.sweeping.worker import WorkerTask
from segtune.tracking.run_writer import RunWriter, deliver_outboxes
from segtune.tracking.runs import RunRecord, best_run, delete_run, sweep_parent, sweep_runs
from segtune.tracking.store import Store, open_store
from segtune.training.components import check_start
from segtune.training.time_budget import best_workers


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to.

    Attributes:
        best: the finished trial's run of highest val mIoU.
        parent: run id of the sweep itself.
    """

    name: str
    counts: Counts
    best: RunRecord
    parent: str
    seconds: float
    tracking: TrackingConfig

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object, for scripts."""
        return {
            "sweep": self.name,
            "trials": self.counts.to_json(),
            "run": self.best.id,
            "uri": f"runs:/{self.best.id}",
            "metrics": {"val/miou": self.best.miou},
            "parent": self.parent,
            "seconds": round(self.seconds, 1),
        }


def run_sweep(name: str, overrides: list[str], say: Log = lambda _: None) -> SweepResult:
    """Runs a sweep to its total.

    Args:
        name: of a file in sweeps/, or a path to one.
        overrides: `sweep.KEY=VALUE`, and any others for every trial.

    Raises:
        ConfigError: a fault in the sweep file, or another question than before, found before anything starts.
        Interrupted: stopped by the user; the same command goes on from there.
        PartialError: its workers died too often to reach the total.
    """
    started = time.monotonic()
    spec = with_workers(load_spec(name, overrides), say)
    space = build_space(spec)
    config = compose(spec.base).config
    store = open_store(config.tracking)
    source = open_source(
        config.dataset, say
    )  # drawn or found once, before several workers look for it
    folder = sweep_folder(store.root, spec.name)
    spec = located(spec, folder)
    study = SweepStudy(folder, spec)
    remember(folder, spec.storage)
    study.check_identity(facts_of(source.fingerprint(), space, config))
    if (
        spec.launcher == "local" and not study.is_complete()
    ):  # other machines have devices and files of their own
        _check_start(spec, space)
    parent = _parent_run(store, spec, space, folder)
    # without the database's address, which the folder remembers
    words = [name, *(o for o in overrides if not o.startswith("sweep.storage="))]
    study.begin(words)
    RunWriter(store, parent).tags(
        {"segtune.command": in_folder(os.getcwd(), command("sweep", *words))}
    )
    study.recover()
    _settle(store, study)
    counts = study.counts()
    total = spec.n_trials or f"as many as {spec.budget} allow"
    say(f"sweep {spec.name}: {counts.done} of {total} trials done, "
        f"{spec.processes} workers, searching {', '.join(spec.search)}")  # fmt: skip
    if not study.is_complete():
        go_on = command("sweep", *words)
        _run_workers(WorkerTask(spec, folder, parent, threads_of(spec)), store, study, go_on)
    return _result(store, study, parent, time.monotonic() - started)


def _check_start(spec: SweepSpec, space: Space) -> None:
    """Checks the device and each template's weights, before every trial of it fails for the same reason.

    Weights that the sweep itself searches, or that a searched encoder needs, are left to the trials.

    Raises:
        ConfigError: trials of a template cannot start.
    """
    for template in space.templates:
        searched = {d.key for d in space.counting(template)}
        config = compose(space.base_of(template)).config
        try:
            check_start(config, with_weights=not searched & {"hp.encoder", "hp.pretrained_weights"})
        except ConfigError as error:
            raise ConfigError(f"sweep '{spec.name}': template={template}: {error}") from None


def located(spec: SweepSpec, folder: Path) -> SweepSpec:
    """The spec with the address of its study, as it was given or as the folder remembers it.

    Raises:
        ConfigError: the study was started somewhere else.
    """
    known = remembered(folder)
    if spec.storage is None or spec.storage == known:
        return spec.model_copy(update={"storage": known})
    before = None if known else load_study(folder, spec.name)
    there = f"'{without_password(known)}'" if known else f"the file '{folder / 'journal.log'}'"
    has_begun = known is not None or (before is not None and before.get_trials(deepcopy=False))
    if has_begun and load_study(folder, spec.name, spec.storage) is None:
        raise ConfigError(
            f"sweep '{spec.name}' was started with its study in {there}, and '{without_password(spec.storage)}' has "
            "none of that name: its trials would not count. Leave sweep.storage out, or give the new study a name of "
            "its own with sweep.name=…"
        )
    return spec


def with_workers(spec: SweepSpec, say: Log) -> SweepSpec:
    """The spec with a number of workers, measured where it says `auto`."""
    if spec.workers != "auto":
        return spec
    if spec.launcher != "local":
        raise ConfigError("sweep.workers=auto is for this machine; give Slurm and Ray a number.")
    number, why = best_workers(compose_trial(spec.base, os.cpu_count() or 1))
    say(f"sweep.workers=auto: {number} ({why})")
    return spec.model_copy(update={"workers": number})


def threads_of(spec: SweepSpec) -> int:
    """CPU threads of one trial."""
    return (
        spec.cpus if spec.launcher != "local" else max(1, (os.cpu_count() or 1) // spec.processes)
    )


def _run_workers(task: WorkerTask, store: Store, study: SweepStudy, go_on: str) -> None:
    def read() -> Progress:
        return progress(study.study, task.spec.n_trials, task.spec.processes)

    stopped, launch = False, LAUNCHERS[task.spec.launcher]
    try:
        if sys.stderr.isatty():
            with (
                (task.folder / "workers.log").open("a", encoding="utf-8") as log,
                live_panel(read) as tick,
            ):
                launch(task, tick, log)
        else:
            launch(task, lambda: None, None)
    except Interrupted:
        stopped = True
    except SweepStopped:
        if sys.stderr.isatty():  # its reason went where the panel could not be disturbed
            lines = (task.folder / "workers.log").read_text(encoding="utf-8").splitlines()
            print("\n".join(lines[-3:]), file=sys.stderr)
        raise
    finally:
        study.recover()
        _settle(store, study)
    if stopped or study.stop_asked():
        raise Interrupted(
            f"sweep {task.spec.name} was stopped with {study.counts().to_json()}. Go on with: {go_on}"
        )


def _parent_run(store: Store, spec: SweepSpec, space: Space, folder: Path) -> str:
    with FileLock(folder / "parent.lock"):
        found = sweep_parent(store, spec.name)
        if found:
            return found
        tags = {"segtune.kind": "sweep", "segtune.sweep": spec.name}
        params = {
            "n_trials": spec.n_trials,
            "sampler": spec.sampler,
            "pruner": spec.pruner,
            "seed": spec.seed,
        }
        run = RunWriter.create(store, spec.name, params, tags)
        run.data("sweep.yaml", spec.shareable())
        run.data("space.json", [vars(d) for d in space.dimensions])
        return run.run_id


def _settle(store: Store, study: SweepStudy) -> None:
    """Syncs MLflow run states with their trials; a run that a killed worker left before its first step is deleted."""
    try:
        with_backoff(lambda: _deliver_all(store))
    except ConnectionError as error:
        raise StorageError(
            f"{error}. It is kept, and sent when the same command is given again."
        ) from None
    runs = sweep_runs(
        store, study.spec.name
    )  # before the trials are read: a run that is younger is not touched
    running = [t for t in study.counted() if t.state == TrialState.RUNNING]
    begins = any(
        RUN not in t.user_attrs for t in running
    )  # a run that no trial names yet may be its
    states = run_states(study.study)
    for run in runs:
        state = states.get(run.id)
        if state is None and run.state == "running":
            if not begins:
                delete_run(store, run.id)
        elif state not in (None, "running", run.state):
            RunWriter(store, run.id).finish(state)  # type: ignore[arg-type]  # a State


def _deliver_all(store: Store) -> None:
    left = deliver_outboxes(store)
    if left:
        raise ConnectionError(
            f"the tracking server '{store.uri}' is away, and {left} runs wait to be sent"
        )


def _result(store: Store, study: SweepStudy, parent: str, seconds: float) -> SweepResult:
    spec, counts, runs = study.spec, study.counts(), sweep_runs(store, study.spec.name)
    writer = RunWriter(store, parent)
    if not counts.finished:
        writer.finish("failed")
        raise SegtuneError(
            f"sweep {spec.name}: none of {counts.done} trials finished ({counts.to_json()}). The reasons stand in the "
            f"lines above, and in: {study.command('status')}"
        )
    best = best_run(runs)
    writer.metrics({"best/val/miou": best.miou or 0.0}, step=counts.done)
    writer.tags({"segtune.best": best.id})
    writer.data("front.json", front(study.study))
    if not study.is_complete():
        raise PartialError(
            f"sweep {spec.name} ended with {counts.done} trials of {spec.n_trials}: its workers died too often."
        )
    writer.finish("finished")
    return SweepResult(spec.name, counts, best, parent, seconds, store.tracking)
