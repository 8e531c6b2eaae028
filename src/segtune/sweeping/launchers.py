"""What starts a sweep's workers: this machine, Slurm, or a Ray cluster. Each worker is the same command everywhere."""

import contextlib
import logging
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import IO, Any

from segtune.errors import ConfigError, Interrupted, SegtuneError
from segtune.runtime.signals import StopRequest
from segtune.sweeping.study import SweepStudy
from segtune.sweeping.worker import WorkerTask, command, start

Launcher = Callable[[WorkerTask, Callable[[], None], IO[str] | None], None]
_FATAL = (2, 3, 5)  # exit codes of a worker that met what no other trial could avoid
_KILLED = -1  # any signal
_LOST_JOBS = 100  # workers of a cluster that were lost and started again
_YOUNG, _RESTARTS = (
    20.0,
    10,
)  # a worker that dies within so many seconds, so often in a row, will never live


class SweepStopped(SegtuneError):
    """A worker met a fault that every trial would meet; it has said which."""

    def __init__(self, code: int) -> None:
        super().__init__(
            "the sweep stopped: a worker met the fault above, and so would every trial."
        )
        self.exit_code = code


def launch_local(
    task: WorkerTask,
    tick: Callable[[], None] = lambda: None,
    log: IO[str] | None = None,
    label: str = "",
) -> None:
    """Keeps `sweep.workers` processes alive on this machine until the total is reached; passes a stop on to them.

    Args:
        tick: called ten times a second while they work.
        log: where their lines go; None for standard error.
        label: in their names, for workers that join a sweep.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM; the trials at hand were given back.
        SweepStopped: a worker met a fault that every trial would meet.
    """

    def begin(number: int) -> subprocess.Popen[bytes]:
        """A worker process in a session of its own: Ctrl-C reaches it through this one, once."""
        return start(
            command(task, f"worker {label or number}"),
            task.to_json(),
            start_new_session=True,
            stderr=log,
        )

    workers = {n: begin(n) for n in range(task.spec.processes)}
    begun, young = dict.fromkeys(workers, time.monotonic()), dict.fromkeys(workers, 0)
    stop, told = StopRequest(), False
    try:
        with stop.listening():
            while workers:
                if stop.requested and not told:
                    told = True
                    for process in workers.values():
                        process.terminate()
                for number, process in list(workers.items()):
                    code = process.poll()
                    if code is None:
                        continue
                    del workers[number]
                    _check_code(code)
                    if code in (0, Interrupted.exit_code) or stop.requested:
                        continue
                    young[number] = (
                        young[number] + 1 if time.monotonic() - begun[number] < _YOUNG else 0
                    )
                    if young[number] <= _RESTARTS:
                        print(
                            f"[worker {number}] died (exit code {code}) and is replaced",
                            file=log or sys.stderr,
                        )
                        workers[number], begun[number] = begin(number), time.monotonic()
                tick()
                time.sleep(0.1)
    except KeyboardInterrupt:  # the second Ctrl-C
        stop.requested = True
    finally:
        for process in workers.values():
            process.kill()
        for process in workers.values():
            process.wait()
    if stop.requested:
        raise Interrupted("stopped.")


def launch_slurm(
    task: WorkerTask, tick: Callable[[], None] = lambda: None, log: IO[str] | None = None
) -> None:
    """Submits the workers to Slurm as an array; a preempted one gives its trial back and is queued again.

    `sweep.slurm` takes submitit's parameters; `{cluster: local}` runs the jobs on this machine.

    Raises:
        ConfigError: submitit is not installed, or Slurm is not here.
        Interrupted: by Ctrl-C or SIGTERM; the workers were asked to stop.
        SweepStopped: a worker met a fault that every trial would meet.
    """
    try:
        import submitit

        from segtune.sweeping.slurm_worker import SlurmWorker
    except ModuleNotFoundError:
        raise ConfigError(
            "sweep.launcher=slurm needs submitit: pip install 'segtune[slurm]'"
        ) from None
    options = dict(task.spec.slurm)
    # submitit writes tasks to files; the database's address is read from the sweep's folder instead
    task = replace(task, spec=task.spec.model_copy(update={"storage": None}))
    try:
        executor = submitit.AutoExecutor(
            folder=task.folder / "slurm", cluster=options.pop("cluster", "slurm")
        )
        own = {
            "name": f"segtune-{task.spec.name}",
            "cpus_per_task": task.spec.cpus,
            "timeout_min": 24 * 60,
        }
        gpus = {"gpus_per_node": math.ceil(task.spec.gpus)} if task.spec.gpus else {}
        executor.update_parameters(**own | gpus | options)
    except (RuntimeError, NameError) as error:
        raise ConfigError(
            f"sweep.launcher=slurm: {error}. Start it where sbatch is, or set sweep.slurm."
        ) from None
    with executor.batch():
        jobs = {
            n: executor.submit(SlurmWorker(task, f"worker {n}")) for n in range(task.spec.processes)
        }
    lost = 0

    def look() -> bool:
        nonlocal lost
        for number, job in list(jobs.items()):
            if not job.done():
                continue
            del jobs[number]
            code = _KILLED if job.exception() else _check_code(job.result())
            if code == _KILLED and lost < _LOST_JOBS:
                lost += 1
                jobs[number] = executor.submit(SlurmWorker(task, f"worker {number}"))
        return bool(jobs)

    _wait_for_remote(task, look, tick)


def launch_ray(
    task: WorkerTask, tick: Callable[[], None] = lambda: None, log: IO[str] | None = None
) -> None:
    """Runs the workers as tasks of the Ray cluster at RAY_ADDRESS, else of one on this machine.

    Ray starts a worker again elsewhere when its node is lost.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
        Interrupted: by Ctrl-C or SIGTERM; the workers were asked to stop.
        SweepStopped: a worker met a fault that every trial would meet.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError("sweep.launcher=ray needs Ray: pip install 'segtune[ray]'") from None
    with contextlib.redirect_stdout(
        sys.stderr
    ):  # Ray's own notices: standard output is for results
        _pull_on_ray(task, ray, tick)
        ray.shutdown()


def _pull_on_ray(task: WorkerTask, ray: Any, tick: Callable[[], None]) -> None:
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ConfigError(
            f"sweep.launcher=ray: {error}. Set RAY_ADDRESS, or start one: ray start --head"
        ) from None
    # a lost node's tasks are started again by Ray itself
    options = {"num_cpus": task.spec.cpus, "num_gpus": task.spec.gpus, "max_retries": _LOST_JOBS}
    work = ray.remote(**options, scheduling_strategy="SPREAD")(_run_worker)
    text = task.to_json()
    waiting = [work.remote(command(task, f"worker {n}"), text) for n in range(task.spec.processes)]
    lost = 0

    def look() -> bool:
        nonlocal waiting, lost
        done, waiting = ray.wait(waiting, timeout=0)
        for code in ray.get(done):
            if _check_code(code) == _KILLED and lost < _LOST_JOBS:
                lost += 1
                waiting.append(work.remote(command(task, f"worker again {lost}"), text))
        return bool(waiting)

    _wait_for_remote(task, look, tick)


def _run_worker(words: list[str], text: str) -> int:
    return start(words, text).wait()


def _wait_for_remote(task: WorkerTask, look: Callable[[], bool], tick: Callable[[], None]) -> None:
    """Waits for workers on other machines; a stop reaches them through the study."""
    stop, told = StopRequest(), False
    with stop.listening():
        while look():
            if stop.requested and not told:
                told = True
                SweepStudy(task.folder, task.spec).ask_to_stop()
            tick()
            time.sleep(0.2)
    if stop.requested:
        raise Interrupted("stopped.")


def _check_code(code: int) -> int:
    """The exit code of a worker that ended well, or was killed; raises for what no other would do better."""
    if code in (*_FATAL, 1):
        raise SweepStopped(code)
    return _KILLED if code < 0 else code


LAUNCHERS: dict[str, Launcher] = {"local": launch_local, "slurm": launch_slurm, "ray": launch_ray}
"""By the name in `sweep.launcher`."""
