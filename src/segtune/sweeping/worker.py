"""A worker of a sweep: a small supervisor with one warm child that runs trial after trial.

The supervisor loads the libraries and forks; see `engine.children`.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from segtune.config.compose import compose
from segtune.errors import SegtuneError
from segtune.plugins.loading import load_plugins
from segtune.runtime.retry import with_backoff
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.children import print_error, supervise
from segtune.sweeping.engine.pulling import pull_trials
from segtune.sweeping.engine.study import Claim, SweepStudy
from segtune.sweeping.location import remembered
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.trial import run_trial
from segtune.tracking.store import open_store


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
    # -P: a file such as tenacity.py in the working folder is data, not a library
    return [sys.executable, "-P", "-m", "segtune.sweeping.worker", label, str(task.folder)]


def start(words: list[str], text: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a worker that ends with this process, even if this process is killed.

    Args:
        words: of `command`.
        text: the task. It may hold a password, and any user can read a command's words.
        options: of `subprocess.Popen`.
    """
    safe = os.environ | {"PYTHONSAFEPATH": "1"}  # for the processes that the worker starts
    process = subprocess.Popen(
        [*words, str(os.getpid())], stdin=subprocess.PIPE, env=safe, **options
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the caller sees that the worker died
        process.stdin.write(text.encode())
        process.stdin.close()
    return process


def pull(
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
    load_plugins(task.plugins)  # a child that was spawned, not forked, has none yet
    # a server may be away while a dead worker is replaced
    study = with_backoff(lambda: SweepStudy(task.folder, task.spec), partial(_print, label))
    tracking = compose(task.spec.base).config.tracking
    with_backoff(lambda: open_store(tracking), partial(_print, label))

    def run(claim: Claim[Space]) -> None:
        say = partial(_print, f"{label} trial {claim.trial.number}")
        run_trial(study, claim, task.parent, task.threads, stop, say)

    pull_trials(study, space, run, stop, on_claim)


def _print(label: str, line: str) -> None:
    print(f"[{label}] {line}", file=sys.stderr, flush=True)


def main(text: str, label: str, launcher: int) -> int:
    """Run a worker process; return its exit code.

    Args:
        text: the task as JSON.
        launcher: id of the process that started this one.
    """
    stop = StopRequest()
    with stop.listening():
        try:
            task = WorkerTask.parse(text)
            space = build_space(task.spec)  # once for all children
            work = partial(pull, task, space, stop, label)
            say = partial(_print, label)
            return supervise(1, lambda _: work, stop, say, lambda: os.getppid() != launcher)
        except SegtuneError as error:  # this machine may lack a file of the launcher's
            return print_error(error)


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read(), sys.argv[1], int(sys.argv[3])))
