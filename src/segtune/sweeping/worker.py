"""One worker: a small supervisor with one warm child that runs trial after trial.

The supervisor loads the libraries and forks: a child that dies (killed, out of memory, a crash in native code) costs
the trial's current epoch, and is replaced in an instant. torch, the libraries and the decoded dataset stay in the
child's memory between trials.
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
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from segtune.config.compose import compose
from segtune.errors import Interrupted, SegtuneError
from segtune.runtime.retry import with_backoff
from segtune.runtime.signals import StopRequest
from segtune.sweeping.location import remembered
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.study import SweepStudy
from segtune.sweeping.trial import run_trial
from segtune.tracking.store import open_store

_BARREN = 20  # deaths in a row without having claimed a trial: the next one would die as well


@dataclass(frozen=True)
class WorkerTask:
    """What a worker is to do; travels as JSON to wherever it is started.

    Attributes:
        folder: of the study's file and its locks.
        parent: run id of the sweep.
        threads: CPU threads of a trial.
    """

    spec: SweepSpec
    folder: Path
    parent: str
    threads: int

    def to_json(self) -> str:
        """The task as text."""
        data = {"folder": str(self.folder), "parent": self.parent, "threads": self.threads}
        return json.dumps(data | {"spec": self.spec.model_dump(mode="json")})

    @classmethod
    def parse(cls, text: str) -> "WorkerTask":
        """Reads `to_json`."""
        data: dict[str, Any] = json.loads(text)
        spec, folder = SweepSpec.model_validate(data["spec"]), Path(data["folder"])
        if spec.storage is None:
            spec = spec.model_copy(update={"storage": remembered(folder)})
        return cls(spec, folder, data["parent"], data["threads"])


def command(task: WorkerTask, label: str) -> list[str]:
    """The command that starts a worker; the task itself goes to its standard input, see `start`."""
    return [sys.executable, "-m", "segtune.sweeping.worker", label, str(task.folder)]


def start(words: list[str], text: str, **options: Any) -> subprocess.Popen[bytes]:
    """Starts a worker, as `command` says; it ends when this process is gone, even if that happens while it loads.

    Args:
        text: the task. It may hold a password, and any user of a machine can read the words of a command.
    """
    process = subprocess.Popen([*words, str(os.getpid())], stdin=subprocess.PIPE, **options)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # a worker that died at once is the caller's to see
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
    """Pulls and runs trials until no trial is left to start.

    Args:
        space: of the task's sweep.
        label: what this worker is called in its lines.
        on_claim: called with each trial that was claimed.

    Raises:
        Interrupted: asked to stop; the trial at hand was given back.
        SegtuneError: what no other trial could avoid.
    """
    study = SweepStudy(task.folder, task.spec)
    tracking = compose(task.spec.base).config.tracking
    with_backoff(
        lambda: open_store(tracking),
        lambda line: print(f"[{label}] {line}", file=sys.stderr, flush=True),
    )
    while not stop.requested:
        claim = study.claim(space)
        if claim is None:
            if study.stop_asked():
                break
            if study.counts().running == 0:
                return
            time.sleep(0.5)  # one that runs elsewhere may come back
            continue
        on_claim()
        number = claim.trial.number

        def say(line: str, number: int = number) -> None:
            print(f"[{label} trial {number}] {line}", file=sys.stderr, flush=True)

        run_trial(study, claim, task.parent, task.threads, stop, say)
    raise Interrupted(f"sweep {task.spec.name} was stopped.")


def _child(
    task: WorkerTask,
    space: Space,
    label: str,
    has_claimed: Event,
    supervisor: int,
    stop: StopRequest,
) -> None:
    """The warm child; ends with an exit code of the command line's.

    Args:
        stop: the supervisor's: a fork inherits its handler, so that a signal counts before the child has its own.
    """
    threading.Thread(target=_stop_when_orphaned, args=(stop, supervisor), daemon=True).start()
    with stop.listening():
        try:
            pull_trials(task, space, stop, label, has_claimed.set)
        except (Interrupted, KeyboardInterrupt):
            sys.exit(Interrupted.exit_code)
        except SegtuneError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            sys.exit(error.exit_code)


def supervise(task: WorkerTask, label: str, launcher: int, stop: StopRequest) -> int:
    """Keeps one child at work until no trial is left to start, or the launcher is gone; returns its exit code."""
    # a fork is warm in an instant; where forking is unsafe each child loads the libraries itself
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    barren = 0
    space = build_space(task.spec)  # once, for all children
    while True:
        if (
            stop.requested or os.getppid() != launcher
        ):  # a signal at the moment of the fork would be dropped
            return Interrupted.exit_code
        has_claimed = context.Event()
        child: BaseProcess = context.Process(
            target=_child, args=(task, space, label, has_claimed, os.getpid(), stop)
        )
        child.start()
        code = _wait(child, stop, launcher)
        if code >= 0 or stop.requested:
            return Interrupted.exit_code if code < 0 else code
        barren = 0 if has_claimed.is_set() else barren + 1
        if barren == _BARREN:
            print(
                f"[{label}] died {_BARREN} times in a row before its first trial",
                file=sys.stderr,
                flush=True,
            )
            return 1
        name = signal.Signals(-code).name
        print(
            f"[{label}] its process died ({name}); its trial is taken up again",
            file=sys.stderr,
            flush=True,
        )


def _wait(child: BaseProcess, stop: StopRequest, launcher: int) -> int:
    """The child's exit code, once it ended; a stop is passed on to it."""
    told = False
    try:
        while child.is_alive():
            if os.getppid() != launcher:  # who started this process was killed
                stop.requested = True
            if stop.requested and not told:
                told = True
                child.terminate()
            child.join(0.1)
    except KeyboardInterrupt:  # the second Ctrl-C
        child.kill()
        child.join()
    return child.exitcode or 0


def _stop_when_orphaned(stop: StopRequest, parent: int) -> None:
    """A child whose supervisor was killed ends after its step, as if asked to."""
    while os.getppid() == parent:
        time.sleep(0.5)
    stop.requested = True


def main(text: str, label: str, launcher: int) -> int:
    """Entry of a worker process; `text` is a task as JSON, `launcher` the id of the process that started this one."""
    stop = StopRequest()
    with stop.listening():
        return supervise(WorkerTask.parse(text), label, launcher, stop)


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read(), sys.argv[1], int(sys.argv[3])))
