"""A worker of a sweep: a small supervisor with one warm child that runs trial after trial.

The supervisor loads the libraries and forks. A child that dies (killed, out of memory, a crash in
native code) costs the trial's current epoch, and the supervisor replaces it at once. The libraries
and the decoded dataset stay in the child's memory between trials.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from segtune.config.compose import compose
from segtune.errors import Interrupted, SegtuneError
from segtune.plugins.loading import load_plugins
from segtune.runtime.retry import with_backoff
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.location import remembered
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.trial import run_trial
from segtune.tracking.store import open_store

# a child that dies so many times in a row before it claims a trial is not replaced any more
_MAX_EARLY_DEATHS = 20


@dataclass(frozen=True)
class WorkerTask:
    """The task of a worker; it travels as JSON to the machine that runs the worker.

    Attributes:
        folder: holds the study's file and its locks.
        parent: id of the run that stands for the sweep.
        threads: CPU threads of a trial.
        plugins: files and modules to load before the spec is read.
    """

    spec: SweepSpec
    folder: Path
    parent: str
    threads: int
    plugins: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the task as text."""
        data = {"folder": str(self.folder), "parent": self.parent, "threads": self.threads}
        spec = self.spec.model_dump(mode="json")
        return json.dumps({**data, "spec": spec, "plugins": self.plugins})

    @classmethod
    def parse(cls, text: str) -> "WorkerTask":
        """Read the text of `to_json`, and load the plugins that it names.

        A database's URL that it lacks is in the sweep's folder.
        """
        data: dict[str, Any] = json.loads(text)
        plugins = tuple(data.get("plugins", ()))
        load_plugins(plugins)
        spec, folder = SweepSpec.model_validate(data["spec"]), Path(data["folder"])
        if spec.storage is None:
            spec = spec.model_copy(update={"storage": remembered(folder)})
        return cls(spec, folder, data["parent"], data["threads"], plugins)


Task = WorkerTask  # jobs that 0.1.0 queued on Slurm name the class so


def command(task: WorkerTask, label: str) -> list[str]:
    """Return the command that starts a worker; `start` sends the task to its standard input."""
    return [sys.executable, "-m", "segtune.sweeping.worker", label, str(task.folder)]


def start(words: list[str], text: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a worker that ends with this process, even if this process is killed.

    Args:
        words: of `command`.
        text: the task. It may hold a password, and any user can read a command's words.
        options: of `subprocess.Popen`.
    """
    process = subprocess.Popen([*words, str(os.getpid())], stdin=subprocess.PIPE, **options)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the caller sees that the worker died
        process.stdin.write(text.encode())
        process.stdin.close()
    return process


def pull_trials(
    task: WorkerTask,
    space: Space,
    stop: StopRequest,
    label: str,
    on_claim: Callable[[], None] = lambda: None,
) -> None:
    """Claim and run trials until no trial is left to start.

    Args:
        space: of the task's sweep.
        label: name of the worker in its lines.
        on_claim: called after each claim.

    Raises:
        Interrupted: asked to stop; the running trial returned to the queue.
        SegtuneError: a fault of every trial.
    """
    study = SweepStudy(task.folder, task.spec)
    tracking = compose(task.spec.base).config.tracking
    with_backoff(lambda: open_store(tracking), lambda line: _print(label, line))
    while not stop.requested:
        claim = study.claim(space)
        if claim is None:
            if study.stop_requested():
                break
            if study.counts().running == 0:
                return
            time.sleep(0.5)  # a trial of another worker may return to the queue
            continue
        on_claim()
        say = partial(_print, f"{label} trial {claim.trial.number}")
        run_trial(study, claim, task.parent, task.threads, stop, say)
    raise Interrupted(f"sweep {task.spec.name} was stopped.")


def supervise(task: WorkerTask, label: str, launcher: int, stop: StopRequest) -> int:
    """Keep one child at work until no trial is left to start, or until the launcher is gone.

    Args:
        launcher: process id of the launcher.

    Returns:
        The exit code of the worker.
    """
    # a forked child is warm at once; where a fork is unsafe, each child loads the libraries
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    early_deaths = 0
    space = build_space(task.spec)  # once for all children
    while True:
        # a signal that comes during the fork sets this flag, and no child hears it
        if stop.requested or os.getppid() != launcher:
            return Interrupted.exit_code
        has_claimed = context.Event()
        args = (task, space, label, has_claimed, os.getpid(), stop)
        child: BaseProcess = context.Process(target=_run_child, args=args)
        child.start()
        code = _wait(child, stop, launcher)
        if code >= 0 or stop.requested:
            return Interrupted.exit_code if code < 0 else code
        early_deaths = 0 if has_claimed.is_set() else early_deaths + 1
        if early_deaths == _MAX_EARLY_DEATHS:
            _print(label, f"died {_MAX_EARLY_DEATHS} times in a row before its first trial")
            return 1
        name = signal.Signals(-code).name
        _print(label, f"its process died ({name}); another one resumes its trial")


def _run_child(
    task: WorkerTask,
    space: Space,
    label: str,
    has_claimed: Event,
    supervisor: int,
    stop: StopRequest,
) -> None:
    """Run trials in the child; end it with an exit code of the command line.

    Args:
        stop: the supervisor's. The fork inherits its handler, which hears a signal that comes
            before the child has its own handler.
    """
    threading.Thread(target=_stop_when_orphaned, args=(stop, supervisor), daemon=True).start()
    with stop.listening():
        try:
            pull_trials(task, space, stop, label, has_claimed.set)
        except (Interrupted, KeyboardInterrupt):
            sys.exit(Interrupted.exit_code)
        except SegtuneError as error:
            sys.exit(_print_error(error))


def _wait(child: BaseProcess, stop: StopRequest, launcher: int) -> int:
    """Return the child's exit code after it ended; pass a stop request on to it."""
    is_passed_on = False
    try:
        while child.is_alive():
            if os.getppid() != launcher:  # the launcher was killed
                stop.requested = True
            if stop.requested and not is_passed_on:
                is_passed_on = True
                child.terminate()
            child.join(0.1)
    except KeyboardInterrupt:  # the second Ctrl-C
        child.kill()
        child.join()
    return child.exitcode or 0


def _stop_when_orphaned(stop: StopRequest, parent: int) -> None:
    """Request a stop when the supervisor is gone, so that the child ends after its step."""
    while os.getppid() == parent:
        time.sleep(0.5)
    stop.requested = True


def _print(label: str, line: str) -> None:
    print(f"[{label}] {line}", file=sys.stderr, flush=True)


def _print_error(error: SegtuneError) -> int:
    """Print an error as the command line does; return its exit code."""
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return error.exit_code


def main(text: str, label: str, launcher: int) -> int:
    """Run a worker process; return its exit code.

    Args:
        text: the task as JSON.
        launcher: id of the process that started this one.
    """
    stop = StopRequest()
    with stop.listening():
        try:
            return supervise(WorkerTask.parse(text), label, launcher, stop)
        except SegtuneError as error:  # this machine may lack a file of the launcher's
            return _print_error(error)


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read(), sys.argv[1], int(sys.argv[3])))
