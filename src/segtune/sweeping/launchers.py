"""The launchers, which start a sweep's workers: on this machine, through Slurm, or on Ray.

A worker is the same command everywhere.
"""

import contextlib
import logging
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import IO, Any

from segtune.errors import ConfigError, Interrupted, SegtuneError
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.worker import WorkerTask, command, start

Launcher = Callable[[WorkerTask, Callable[[], None], IO[str] | None], None]
_FATAL = (1, 2, 3, 5)  # exit codes of a worker that met a fault of every trial
_KILLED = -1  # stands for any signal
_MAX_LOST_JOBS = 100  # workers of a cluster that are replaced
# a worker that dies within so many seconds, so many times in a row, is not replaced any more
_SHORT_LIFE, _MAX_SHORT_LIVES = 20.0, 10


class SweepStopped(SegtuneError):
    """A worker met a fault of every trial, and printed it."""

    def __init__(self, code: int) -> None:
        super().__init__(
            "the sweep stopped: a worker met the fault above, and every trial would meet it."
        )
        self.exit_code = code


def launch_local(
    task: WorkerTask,
    tick: Callable[[], None] = lambda: None,
    log: IO[str] | None = None,
    label: str = "",
) -> None:
    """Keep `sweep.workers` processes alive on this machine until no trial is left to start.

    Args:
        tick: called ten times a second while they work.
        log: receives the workers' lines; None for standard error.
        label: in the names of workers that join a sweep.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM; the running trials returned to the queue.
        SweepStopped: a worker met a fault of every trial.
    """
    workers, stop = _LocalWorkers(task, log, label), StopRequest()
    is_passed_on = False
    try:
        with stop.listening():
            while workers.processes:
                if stop.requested and not is_passed_on:
                    is_passed_on = True
                    workers.terminate()
                workers.collect(replace_dead=not stop.requested)
                tick()
                time.sleep(0.1)
    except KeyboardInterrupt:  # the second Ctrl-C
        stop.requested = True
    finally:
        workers.kill()
    if stop.requested:
        raise Interrupted("stopped.")


class _LocalWorkers:
    """The worker processes of a sweep on this machine, by their number."""

    def __init__(self, task: WorkerTask, log: IO[str] | None, label: str) -> None:
        self._task, self._log, self._label = task, log, label
        self._started_at: dict[int, float] = {}
        self._short_lives = dict.fromkeys(range(task.spec.processes), 0)
        self.processes = {number: self._start(number) for number in self._short_lives}

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        self._started_at[number] = time.monotonic()
        return start(
            command(self._task, f"worker {self._label or number}"),
            self._task.to_json(),
            # a session of its own: Ctrl-C reaches the worker once, through this process
            start_new_session=True,
            stderr=self._log,
        )

    def collect(self, replace_dead: bool) -> None:
        """Remove the workers that ended; start new ones for those that died.

        Raises:
            SweepStopped: a worker met a fault of every trial.
        """
        for number, process in list(self.processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self.processes[number]
            _check_code(code)
            if code not in (0, Interrupted.exit_code) and replace_dead:
                self._replace(number, code)

    def _replace(self, number: int, code: int) -> None:
        lived = time.monotonic() - self._started_at[number]
        self._short_lives[number] = self._short_lives[number] + 1 if lived < _SHORT_LIFE else 0
        if self._short_lives[number] <= _MAX_SHORT_LIVES:
            line = f"[worker {number}] died (exit code {code}) and is replaced"
            print(line, file=self._log or sys.stderr)
            self.processes[number] = self._start(number)

    def terminate(self) -> None:
        """Ask the workers to return their trials to the queue and end."""
        for process in self.processes.values():
            process.terminate()

    def kill(self) -> None:
        """End the workers at once."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()


def launch_slurm(
    task: WorkerTask, tick: Callable[[], None] = lambda: None, log: IO[str] | None = None
) -> None:
    """Submit the workers to Slurm as an array of jobs.

    A preempted worker returns its trial to the queue, and Slurm queues the worker again.
    `sweep.slurm` takes submitit's parameters; `{cluster: local}` runs the jobs on this machine.

    Raises:
        ConfigError: submitit is not installed, or this machine has no Slurm.
        Interrupted: by Ctrl-C or SIGTERM; the workers were asked to end.
        SweepStopped: a worker met a fault of every trial.
    """
    # submitit writes tasks to files: workers read the database's URL from the sweep's folder
    sent = replace(task, spec=task.spec.model_copy(update={"storage": None}))
    executor = _slurm_executor(task)
    from segtune.sweeping.slurm_worker import SlurmWorker

    def submit(number: int) -> Any:
        return executor.submit(SlurmWorker(sent, f"worker {number}"))

    with executor.batch():
        jobs = {number: submit(number) for number in range(task.spec.processes)}
    lost_jobs = 0

    def collect() -> bool:
        nonlocal lost_jobs
        for number, job in list(jobs.items()):
            if not job.done():
                continue
            del jobs[number]
            code = _KILLED if job.exception() else _check_code(job.result())
            if _is_lost(code, task) and lost_jobs < _MAX_LOST_JOBS:
                lost_jobs += 1
                jobs[number] = submit(number)
        return bool(jobs)

    _wait_for_remote(task, collect, tick)


def _slurm_executor(task: WorkerTask) -> Any:
    """Return submitit's executor with the parameters of `sweep.slurm`."""
    try:
        import submitit
    except ModuleNotFoundError:
        raise ConfigError(
            "sweep.launcher=slurm needs submitit: pip install 'segtune[slurm]'"
        ) from None
    spec = task.spec
    user_parameters = dict(spec.slurm)
    parameters = {
        "name": f"segtune-{spec.name}",
        "cpus_per_task": spec.cpus,
        "timeout_min": 24 * 60,
    }
    if spec.gpus:
        parameters["gpus_per_node"] = math.ceil(spec.gpus)
    try:
        cluster = user_parameters.pop("cluster", "slurm")
        # -P: see `worker.command`
        python = f"{shlex.quote(sys.executable)} -P"
        executor = submitit.AutoExecutor(
            task.folder / "slurm", cluster, slurm_python=python, local_python=python
        )
        executor.update_parameters(**parameters | user_parameters)
    except (RuntimeError, NameError) as error:
        raise ConfigError(
            f"sweep.launcher=slurm: {error}. Run it on a machine that has sbatch, or set "
            "sweep.slurm."
        ) from None
    return executor


def launch_ray(
    task: WorkerTask, tick: Callable[[], None] = lambda: None, log: IO[str] | None = None
) -> None:
    """Run the workers as tasks of the Ray cluster at RAY_ADDRESS, else of one on this machine.

    Ray starts a worker again on another node if its node is lost.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
        Interrupted: by Ctrl-C or SIGTERM; the workers were asked to end.
        SweepStopped: a worker met a fault of every trial.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError("sweep.launcher=ray needs Ray: pip install 'segtune[ray]'") from None
    # Ray prints notices to standard output, which is for results
    with contextlib.redirect_stdout(sys.stderr):
        _pull_on_ray(task, ray, tick)
        ray.shutdown()


def _pull_on_ray(task: WorkerTask, ray: Any, tick: Callable[[], None]) -> None:
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ConfigError(
            f"sweep.launcher=ray: {error}. Set RAY_ADDRESS, or start a cluster: ray start --head"
        ) from None
    # Ray itself starts the tasks of a lost node again: max_retries
    options = {
        "num_cpus": task.spec.cpus,
        "num_gpus": task.spec.gpus,
        "max_retries": _MAX_LOST_JOBS,
        "scheduling_strategy": "SPREAD",
    }
    run_remotely = ray.remote(**options)(_run_worker)
    text = task.to_json()

    def submit(label: str) -> Any:
        return run_remotely.remote(command(task, label), text)

    running = [submit(f"worker {number}") for number in range(task.spec.processes)]
    lost_jobs = 0

    def collect() -> bool:
        nonlocal running, lost_jobs
        ended, running = ray.wait(running, timeout=0)
        for code in ray.get(ended):
            if _is_lost(_check_code(code), task) and lost_jobs < _MAX_LOST_JOBS:
                lost_jobs += 1
                running.append(submit(f"worker again {lost_jobs}"))
        return bool(running)

    _wait_for_remote(task, collect, tick)


def _run_worker(words: list[str], text: str) -> int:
    return start(words, text).wait()


def _wait_for_remote(
    task: WorkerTask, collect: Callable[[], bool], tick: Callable[[], None]
) -> None:
    """Wait for workers on other machines; a stop request reaches them through the study.

    Args:
        collect: replaces the workers that died; returns whether any worker is left.
    """
    stop, is_passed_on = StopRequest(), False
    with stop.listening():
        while collect():
            if stop.requested and not is_passed_on:
                is_passed_on = True
                SweepStudy(task.folder, task.spec).request_stop()
            tick()
            time.sleep(0.2)
    if stop.requested:
        raise Interrupted("stopped.")


def _is_lost(code: int, task: WorkerTask) -> bool:
    """Return whether a worker on another machine was killed, or ended by a signal there."""
    if code == Interrupted.exit_code:
        return not SweepStudy(task.folder, task.spec).stop_requested()
    return code == _KILLED


def _check_code(code: int) -> int:
    """Return the exit code of a worker, with _KILLED for any signal.

    Raises:
        SweepStopped: the worker met a fault of every trial.
    """
    if code in _FATAL:
        raise SweepStopped(code)
    return _KILLED if code < 0 else code
