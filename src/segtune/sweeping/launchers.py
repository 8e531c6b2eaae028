"""What starts a sweep's workers: this machine, Slurm, or a Ray cluster. Each worker is the same command everywhere."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO

from segtune.errors import Interrupted, SegtuneError
from segtune.stopping import StopRequest
from segtune.sweeping.worker import Task, command

Launcher = Callable[[Task, Callable[[], None], IO[str] | None], None]
_FATAL = (2, 3, 5)  # exit codes of a worker that met what no other trial could avoid
_YOUNG, _RESTARTS = 20.0, 5  # a worker that dies within so many seconds, so often in a row, will never live


class SweepStopped(SegtuneError):
    """A worker met a fault that every trial would meet; it has said which."""

    def __init__(self, code: int) -> None:
        super().__init__("the sweep stopped: a worker met the fault above, and so would every trial.")
        self.exit_code = code


def launch_local(
    task: Task, tick: Callable[[], None] = lambda: None, log: IO[str] | None = None, label: str = ""
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

    def start(number: int) -> subprocess.Popen[bytes]:
        """A worker process in a session of its own: Ctrl-C reaches it through this one, once."""
        words = command(task, f"worker {label or number}")
        return subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL, stderr=log)

    workers = {n: start(n) for n in range(task.spec.workers)}
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
                    if code in (*_FATAL, 1):
                        raise SweepStopped(code)
                    if code in (0, Interrupted.exit_code) or stop.requested:
                        continue
                    young[number] = young[number] + 1 if time.monotonic() - begun[number] < _YOUNG else 0
                    if young[number] <= _RESTARTS:
                        print(f"[worker {number}] died (exit code {code}) and is replaced", file=log or sys.stderr)
                        workers[number], begun[number] = start(number), time.monotonic()
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


LAUNCHERS: dict[str, Launcher] = {"local": launch_local}
"""By the name in `sweep.launcher`."""
