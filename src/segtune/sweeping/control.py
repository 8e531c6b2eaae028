"""Steer a sweep from another shell: status, stop, retry, one more worker."""

import os
import time

from optuna import Study
from pydantic import ValidationError

from segtune.config.commands import command
from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError, StorageError
from segtune.plugins.loading import needed_plugins
from segtune.runtime.addresses import without_password
from segtune.runtime.processors import available_processors
from segtune.sweeping.engine.records import SPEC
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.launchers import launch_local
from segtune.sweeping.location import address, remember, sweep_folder
from segtune.sweeping.progress import Progress, progress
from segtune.sweeping.records import load_study
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.worker import WorkerTask
from segtune.tracking.runs import sweep_parent
from segtune.tracking.store import open_store


def sweep_status(name: str, root: str, storage: str | None = None) -> Progress:
    """Return the progress of a sweep; reading needs no right to write.

    Raises:
        ConfigError: the sweep was never started in this store.
    """
    study, spec = _read(name, root, storage)
    return progress(study, spec.n_trials, spec.processes)


def stop_sweep(name: str, root: str, storage: str | None = None, wait: float = 0.0) -> Progress:
    """Stop the workers of a sweep on all machines; unfinished trials return to the queue.

    Args:
        wait: seconds to wait for the workers at most.

    Raises:
        ConfigError: the sweep was never started in this store.
    """
    study = _open(name, root, storage)
    study.request_stop()
    deadline = time.monotonic() + wait
    while study.counts().running and time.monotonic() < deadline:
        time.sleep(0.5)
        study.recover()
    return _progress(study)


def retry_failed(name: str, root: str, storage: str | None = None) -> int:
    """Enqueue the failed trials of a sweep again; return their number.

    Raises:
        ConfigError: the sweep was never started in this store.
    """
    return _open(name, root, storage).retry_failed()


def add_worker(name: str, tracking: TrackingConfig, storage: str | None = None) -> Progress:
    """Run one more worker of a sweep in this process until no trial is left to start.

    Raises:
        ConfigError: the sweep was never started in this store.
        Interrupted: stopped by the user; the worker's trial returned to the queue.
    """
    study = _open(name, tracking.root, storage)
    parent = sweep_parent(open_store(tracking), name, study.id)
    if parent is None:
        start = command("sweep", name, tracking=tracking)
        raise ConfigError(f"sweep '{name}' has no run in this store; start it with: {start}")
    threads = max(1, available_processors() // study.spec.processes)
    remember(study.folder, storage)
    one_worker = study.spec.model_copy(update={"workers": 1})
    task = WorkerTask(one_worker, study.folder, parent, threads, tuple(needed_plugins()))
    launch_local(task, label=f"{os.uname().nodename}-{os.getpid()}")
    return sweep_status(name, tracking.root, storage)


def _progress(study: SweepStudy[SweepSpec]) -> Progress:
    return progress(study.study, study.spec.n_trials, study.spec.processes)


def _open(name: str, root: str, storage: str | None) -> SweepStudy[SweepSpec]:
    _, spec = _read(name, root, storage)
    return SweepStudy(sweep_folder(root, name), spec)


def _read(name: str, root: str, storage: str | None) -> tuple[Study, SweepSpec]:
    folder = sweep_folder(root, name)
    storage = storage or address(folder)
    study = load_study(folder, name, storage)
    if study is None or SPEC not in study.user_attrs:
        where = f"'{without_password(storage)}'" if storage else f"'{root}'"
        start = command("sweep", name, tracking=TrackingConfig(root=root))
        raise ConfigError(
            f"sweep '{name}' was never started in {where}. Start it with: {start}\n"
            "Or name its store with tracking.root=, or its database with sweep.storage="
        )
    try:
        spec = SweepSpec.model_validate({**study.user_attrs[SPEC], "storage": storage})
    except ValidationError as error:
        raise StorageError(
            f"sweep '{name}' in '{root}' records damaged settings ({error.errors()[0]['msg']}). "
            "Restore its study from a copy."
        ) from None
    return study, spec
