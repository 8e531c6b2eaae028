"""The functions that start, watch and stop sweeps; see `segtune.api.experiments` for the others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from segtune.api.proposing import checked_sweep
from segtune.config.defaults import EXPERIMENT, ROOT
from segtune.plugins.loading import load_plugins
from segtune.runtime.log import Log, to_stderr

if TYPE_CHECKING:
    from segtune.sweeping.launch import SweepResult
    from segtune.sweeping.plan import SweepPlan
    from segtune.sweeping.progress import Progress


def plan_sweep(
    name: str, *overrides: str, plugins: Sequence[str] = (), say: Log = to_stderr
) -> "SweepPlan":
    """Return the space, the forecast and the compute of a sweep, without starting it.

    Args:
        plugins: files or modules that register parts of your own.

    Raises:
        SegtuneError: see `segtune.errors`.
    """
    load_plugins(plugins)
    words = checked_sweep(name, overrides, say)
    from segtune.sweeping.plan import plan_sweep as plan

    return plan(name, words, say)


def sweep(
    name: str, *overrides: str, plugins: Sequence[str] = (), say: Log = to_stderr
) -> "SweepResult":
    """Start, join or resume the sweep of `sweeps/NAME.yaml`.

    `sweep("quickstart", "sweep.n_trials=8")` changes a key of the file.

    Args:
        plugins: files or modules that register parts of your own; all workers load them.

    Raises:
        SegtuneError: see `segtune.errors`.
    """
    load_plugins(plugins)
    words = checked_sweep(name, overrides, say)
    from segtune.sweeping.launch import run_sweep

    return run_sweep(name, words, say)


def status(name: str, *, root: str = ROOT, storage: str | None = None) -> "Progress":
    """Return the progress of a sweep, on whichever machines it runs.

    Raises:
        ConfigError: the sweep was never started here.
    """
    from segtune.sweeping.control import sweep_status

    return sweep_status(name, root, storage)


def stop(
    name: str, *, root: str = ROOT, storage: str | None = None, wait: float = 0.0
) -> "Progress":
    """Stop a sweep; unfinished trials return to the queue, and `sweep` continues it.

    Args:
        wait: longest time to wait for the workers, in seconds.

    Raises:
        ConfigError: the sweep was never started here.
    """
    from segtune.sweeping.control import stop_sweep

    return stop_sweep(name, root, storage, wait)


def retry(name: str, *, root: str = ROOT, storage: str | None = None) -> int:
    """Return the failed trials of a sweep to the queue; return their number.

    Raises:
        ConfigError: the sweep was never started here.
    """
    from segtune.sweeping.control import retry_failed

    return retry_failed(name, root, storage)


def worker(
    name: str,
    *,
    root: str = ROOT,
    uri: str | None = None,
    experiment: str = EXPERIMENT,
    storage: str | None = None,
) -> "Progress":
    """Add a worker to a running sweep; it ends when no trial is left to start.

    Raises:
        ConfigError: the sweep was never started here.
        Interrupted: stopped by the user; the trial of the worker returned to the queue.
    """
    from segtune.config.schema import TrackingConfig
    from segtune.sweeping.control import add_worker

    return add_worker(name, TrackingConfig(root=root, uri=uri, experiment=experiment), storage)
