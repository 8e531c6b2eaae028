"""Start, join or resume a sweep: check the study, run workers, report the result."""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from segtune.config.commands import command, in_folder
from segtune.config.compose import compose
from segtune.config.part_options import checked_options
from segtune.config.schema import TrackingConfig
from segtune.data.sources import open_source
from segtune.errors import ConfigError, Interrupted, PartialError, SegtuneError
from segtune.plugins.loading import needed_plugins
from segtune.plugins.registry import find
from segtune.runtime.addresses import move_passwords, without_password
from segtune.runtime.log import Log, silent, to_stderr
from segtune.runtime.processors import available_processors
from segtune.runtime.retry import is_passing, reason_of
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.fidelity import is_paused
from segtune.sweeping.engine.locks import ProcessLock
from segtune.sweeping.engine.records import FOLDER, RUN, Counts
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.identity import facts_of
from segtune.sweeping.launchers import Launcher, SweepStopped
from segtune.sweeping.location import address, remember, remembered, sweep_folder
from segtune.sweeping.panel import live_panel
from segtune.sweeping.progress import Progress, progress
from segtune.sweeping.records import front, load_study
from segtune.sweeping.run_sync import adopt_runs, sync_runs
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space, compose_trial
from segtune.sweeping.spec import SweepSpec, load_spec, steering_command
from segtune.sweeping.start_from import with_earlier_best
from segtune.sweeping.worker import WorkerTask
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import (
    STUDY_TAG,
    RunRecord,
    best_run,
    study_of,
    sweep_parent,
    sweep_runs,
)
from segtune.tracking.store import Store, open_store
from segtune.training.checkpoints import remove_checkpoints
from segtune.training.components import check_start
from segtune.training.time_budget import best_workers


@dataclass(frozen=True)
class SweepResult:
    """The result of a complete sweep.

    Attributes:
        best: the run of the finished trial with the highest val mIoU.
        parent: id of the run that stands for the sweep itself.
        values: objective -> value of the best run.
    """

    name: str
    counts: Counts
    best: RunRecord
    parent: str
    seconds: float
    tracking: TrackingConfig
    values: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the result as one JSON object, for scripts."""
        return {
            "sweep": self.name,
            "trials": self.counts.to_json(),
            "run": self.best.id,
            "uri": f"runs:/{self.best.id}",
            "metrics": {"val/miou": self.best.miou, **self.values},
            "parent": self.parent,
            "seconds": round(self.seconds, 1),
        }


def run_sweep(name: str, overrides: list[str], say: Log = silent) -> SweepResult:
    """Run a sweep to its total.

    Args:
        name: of a file in sweeps/, or a path to one.
        overrides: `sweep.KEY=VALUE` changes the sweep; other overrides apply to every trial.

    Raises:
        ConfigError: before anything starts: a fault in the sweep file, or a changed question.
        Interrupted: stopped by the user; the same command continues the sweep.
        PartialError: the workers died too often to reach the total.
    """
    started, overrides = time.monotonic(), move_passwords(overrides)
    spec = with_workers(load_spec(name, overrides), say)
    space, plugins = build_space(spec), tuple(needed_plugins())
    config = compose(spec.base).config
    store = open_store(config.tracking)
    source = open_source(config.dataset, say)  # here, before several workers prepare it at once
    folder = sweep_folder(store.root, spec.name)
    spec = located(spec, folder)
    if spec.start_from:
        spec = with_earlier_best(spec, space, store.root, say)
        space = build_space(spec)
    study = SweepStudy(folder, spec)
    remember(folder, spec.storage)
    study.check_identity(facts_of(source.fingerprint(), space, config))
    # workers on other machines have devices and files of their own
    if spec.launcher == "local" and not study.is_complete():
        _check_start(spec, space)
    adopt_runs(store, study)
    parent = _parent_run(store, study, space)
    # the folder remembers the database's address, which may hold a password
    words = [name, *(o for o in overrides if not o.startswith("sweep.storage="))]
    study.begin(words)
    start_command = command("sweep", *words)
    RunWriter(store, parent).tags({"segtune.command": in_folder(os.getcwd(), start_command)})
    study.recover()
    sync_runs(store, study)
    say(_first_line(spec, study.counts()))
    if not study.is_complete():
        task = WorkerTask(spec, folder, parent, threads_of(spec), plugins)
        _run_workers(task, store, study, start_command)
    reason = study.stopped_because()
    if reason is not None:
        say(f"sweep {spec.name} ended early: {reason}")
    return _result(store, study, parent, time.monotonic() - started)


def located(spec: SweepSpec, folder: Path) -> SweepSpec:
    """Return the spec with the URL of its study: the given one, else the one in the folder.

    Raises:
        ConfigError: the study was started in another place.
    """
    known = remembered(folder)
    if spec.storage is None:
        spec = spec.model_copy(update={"storage": address(folder)})
    if spec.storage is None or spec.storage == known:
        return spec.model_copy(update={"storage": known})
    if not _has_begun(folder, spec.name, known):
        _refuse_foreign_study(spec, folder)
        return spec
    if load_study(folder, spec.name, spec.storage) is None:
        place = f"'{without_password(known)}'" if known else f"the file '{folder / 'journal.log'}'"
        raise ConfigError(
            f"sweep '{spec.name}' was started with its study in {place}, and "
            f"'{without_password(spec.storage)}' has none of that name: its trials would not "
            "count. Leave sweep.storage out, or give the new study a name of its own with "
            "sweep.name=…"
        )
    return spec


def with_workers(spec: SweepSpec, say: Log) -> SweepSpec:
    """Return the spec with a number of workers; `auto` is measured."""
    if spec.workers != "auto":
        return spec
    if spec.launcher != "local":
        raise ConfigError("sweep.workers=auto is for this machine; give Slurm and Ray a number.")
    number, reason = best_workers(compose_trial(spec.base, available_processors()))
    say(f"sweep.workers=auto: {number} ({reason})")
    return spec.model_copy(update={"workers": number})


def threads_of(spec: SweepSpec) -> int:
    """Return the number of CPU threads of one trial."""
    if spec.launcher != "local":
        return spec.cpus
    return max(1, available_processors() // spec.processes)


def _has_begun(folder: Path, name: str, url: str | None) -> bool:
    """Return whether a sweep's study is in a database, or has trials in the folder's journal."""
    if url is not None:
        return True
    study = load_study(folder, name)
    return study is not None and bool(study.get_trials(deepcopy=False))


def _refuse_foreign_study(spec: SweepSpec, folder: Path) -> None:
    """Refuse to continue a study of a shared database that was started under another root.

    Raises:
        ConfigError: the database holds a study of the sweep's name, and this root does not know it.
    """
    if study_of(folder.parent.parent, spec.name) is not None:
        return
    study = load_study(folder, spec.name, spec.storage)
    if study is None:
        return
    started_in = study.user_attrs.get(FOLDER, "another folder")
    raise ConfigError(
        f"'{without_password(str(spec.storage))}' holds a study '{spec.name}' already, started in "
        f"'{started_in}'. To start a sweep of your own, give it another name: sweep.name=NAME. "
        "To add a worker to that one, run this with the same sweep.storage: "
        f"{command('worker', spec.name)}"
    )


def _check_start(spec: SweepSpec, space: Space) -> None:
    """Check the device and each template's weights once, before each trial fails on them.

    Trials check the weights themselves if the sweep searches the weights or the encoder.

    Raises:
        ConfigError: trials of a template cannot start.
    """
    for template in space.templates:
        searched = {dimension.key for dimension in space.dimensions_of(template)}
        config = compose(space.base_of(template)).config
        try:
            check_start(config, with_weights=not searched & {"hp.encoder", "hp.pretrained_weights"})
        except ConfigError as error:
            raise ConfigError(f"sweep '{spec.name}': template={template}: {error}") from None


def _first_line(spec: SweepSpec, counts: Counts) -> str:
    total = spec.n_trials or f"as many as {spec.budget} allow"
    return (
        f"sweep {spec.name}: {counts.done} of {total} trials done, {spec.processes} workers, "
        f"searching {', '.join(spec.search)}"
    )


def _parent_run(store: Store, study: SweepStudy[SweepSpec], space: Space) -> str:
    """Return the id of the run that stands for the sweep; the first launcher creates it."""
    spec = study.spec
    with ProcessLock(study.folder / "parent.lock"):
        existing = sweep_parent(store, spec.name, study.id)
        if existing:
            return existing
        tags = {"segtune.kind": "sweep", "segtune.sweep": spec.name, STUDY_TAG: study.id}
        params = {
            "n_trials": spec.n_trials,
            "sampler": spec.sampler,
            "pruner": spec.pruner,
            "seed": spec.seed,
        }
        run = RunWriter.create(store, spec.name, params, tags)
        run.data("sweep.yaml", spec.shareable())
        run.data("space.json", [vars(dimension) for dimension in space.dimensions])
        return run.run_id


def _launcher(spec: SweepSpec) -> Launcher:
    """Return the launcher with its options.

    Raises:
        ConfigError: no such launcher, or an option that it does not take.
    """
    part = find("launcher", spec.launcher, "sweep.launcher")
    options = checked_options(part, spec.launcher_options, "sweep.launcher_options")
    return partial(part.load(), **options)


def _run_workers(
    task: WorkerTask, store: Store, study: SweepStudy[SweepSpec], start_command: str
) -> None:
    def read_progress() -> Progress:
        return progress(study.study, task.spec.n_trials, task.spec.processes)

    stop, launch = StopRequest(), _launcher(task.spec)
    has_panel, lines_file = sys.stderr.isatty(), task.folder / "workers.log"
    try:
        if has_panel:
            with lines_file.open("a", encoding="utf-8") as log, live_panel(read_progress) as tick:
                launch(task, tick, log)
        else:
            launch(task, lambda: None, None)
    except Interrupted:
        stop.requested = True
    except SweepStopped:
        stop.requested = True
        if has_panel:  # the workers' lines, and with them the reason, went to the file
            lines = lines_file.read_text(encoding="utf-8").splitlines()
            print("\n".join(lines[-3:]), file=sys.stderr)
        raise
    finally:
        _settle(store, study, stop)
    if stop.requested or study.stop_requested():
        raise Interrupted(
            f"sweep {task.spec.name} was stopped with {study.counts().to_json()}. Continue with: "
            f"{start_command}"
        )


def _settle(store: Store, study: SweepStudy[SweepSpec], stop: StopRequest) -> None:
    """Return unfinished trials to the queue and sync the runs; a stop does not wait for a store."""
    try:
        with stop.listening():  # long waits look at the request
            study.recover()
            sync_runs(store, study)
    except Exception as error:
        if not stop.requested or not is_passing(error):
            raise
        to_stderr(f"{reason_of(error)}. The next start of the sweep puts its runs in order.")


def _remove_paused(store: Store, study: SweepStudy[SweepSpec]) -> None:
    """Remove the checkpoints of paused trials that did not go on; there may be hundreds of them."""
    for trial in study.counted():
        if is_paused(trial) and RUN in trial.user_attrs:
            remove_checkpoints(store.root / "runs" / trial.user_attrs[RUN], all_of_them=True)


def _result(store: Store, study: SweepStudy[SweepSpec], parent: str, seconds: float) -> SweepResult:
    spec, counts = study.spec, study.counts()
    writer = RunWriter(store, parent)
    if not counts.finished:
        writer.finish("failed")
        status = steering_command("status", spec.name, study.folder)
        raise SegtuneError(
            f"sweep {spec.name}: none of {counts.done} trials finished ({counts.to_json()}). The "
            f"lines above give the reasons, and so does: {status}"
        )
    best = best_run(sweep_runs(store, spec.name, study.id))
    values = {o.name: best.metrics[o.run_metric] for o in spec.objectives}
    figures = {f"best/{name}": value for name, value in values.items()}
    writer.metrics({"best/val/miou": best.miou or 0.0} | figures, step=counts.done)
    writer.tags({"segtune.best": best.id})
    writer.data("front.json", front(study.study))
    if not study.is_complete():
        raise PartialError(
            f"sweep {spec.name} ended with {counts.done} trials of {spec.n_trials}: its workers "
            "died too often."
        )
    _remove_paused(store, study)
    writer.finish("finished")
    return SweepResult(spec.name, counts, best, parent, seconds, store.tracking, values)
