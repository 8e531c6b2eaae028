"""The faults of `chaos.py`, and the servers, the disk and the clock that they need.

A machine without PostgreSQL, without a C compiler or without the right to mount a disk has fewer
kinds of fault.
"""

import contextlib
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from benchmarks.servers import DatabaseServer, TrackingServer, initdb
from segtune.runtime.retry import is_passing
from segtune.sweeping.engine.storage import open_storage

# how often each kind comes in twenty faults
KINDS = {
    "trial killed": 6,
    "trial stopped for a while": 3,
    "supervisor killed": 2,
    "lock held": 2,
    "checkpoint cut off": 2,
    "launcher killed": 1,
    "clock stepped": 1,
    "disk full": 1,
    "tracking server killed": 1,
    "database killed": 1,
}
FULL_SECONDS = 20.0
_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static long long step(void) {
    static volatile long long *shared;
    if (!shared) {
        const char *path = getenv("CHAOS_CLOCK");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (file < 0) return 0;
        void *page = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
        if (page == MAP_FAILED) return 0;
        shared = page;
    }
    return *shared;
}
int clock_gettime(clockid_t which, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(which, t);
    if (!code && which == CLOCK_REALTIME) t->tv_sec += step();
    return code;
}
time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


class Surroundings:
    """The servers, the disk and the clock of a sweep.

    Attributes:
        root: folder of the store.
        environment: variables that give the processes of the sweep the clock.
        kinds: of fault that this machine can do.
    """

    def __init__(self, folder: Path, with_servers: bool) -> None:
        self._open = ExitStack()
        self.kinds = set(KINDS)
        self.root, self.environment = folder / "disk" / "mlruns", dict(os.environ)
        self.disk, self.clock = self._mount(folder / "disk"), self._clock(folder)
        self.database: DatabaseServer | None = None
        self.tracking: TrackingServer | None = None
        if with_servers and initdb() is not None:
            self._start_servers(folder)
        else:
            self.kinds -= {"tracking server killed", "database killed"}

    def close(self) -> None:
        """Stop the servers and remove the disk."""
        self._open.close()

    def _mount(self, folder: Path) -> Path | None:
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(folder)]
        if os.getuid() or subprocess.run(words, capture_output=True).returncode:
            self.kinds.discard("disk full")
            return None
        self._open.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
        return folder

    def _clock(self, folder: Path) -> mmap.mmap | None:
        compiler = shutil.which("cc")
        if compiler is None:
            self.kinds.discard("clock stepped")
            return None
        library, shared = folder / "clock.so", folder / "clock"
        words = [compiler, "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library), "-ldl"]
        subprocess.run(words, input=_CLOCK, text=True, check=True)
        shared.write_bytes(bytes(8))
        self.environment |= {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(shared)}
        with shared.open("r+b") as file:
            return mmap.mmap(file.fileno(), 8)

    def _start_servers(self, folder: Path) -> None:
        for name in ("database", "server"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        self.database = DatabaseServer(folder / "database")
        self.tracking = TrackingServer(folder / "server")
        self.database.start()
        self._open.callback(self.database.kill)
        self.storage = self.database.create("studies")
        self.tracking.start()
        self._open.callback(self.tracking.kill)

    @property
    def words(self) -> list[str]:
        """Overrides that name the store and the servers."""
        words = [f"tracking.root='{self.root}'"]
        if self.tracking and self.database:
            words += [f"tracking.uri={self.tracking.uri}", f"sweep.storage={self.storage}"]
        return words

    @property
    def study_url(self) -> str | None:
        """URL of the study's database; None for a file."""
        return self.storage if self.database else None


class Faults:
    """Does faults to a running sweep.

    Args:
        processes: returns the processes of a kind: `trial`, `supervisor` or `launcher`.
    """

    def __init__(
        self,
        around: Surroundings,
        processes: Callable[[str], list[psutil.Process]],
        dice: random.Random,
    ) -> None:
        self.around, self.processes, self.dice = around, processes, dice

    def deck(self, number: int) -> list[str]:
        """Return kinds of fault in a random order; twenty of them hold every kind."""
        cards: list[str] = []
        one_deck = [kind for kind in KINDS if kind in self.around.kinds for _ in range(KINDS[kind])]
        while len(cards) < number:
            cards += self.dice.sample(one_deck, len(one_deck))
        return cards[:number]

    def do(self, kind: str) -> bool:
        """Do one fault, to its end; return False if there was nothing to do it to."""
        try:
            what, _, how = kind.partition(" ")
            if how == "killed" and what in ("trial", "supervisor", "launcher"):
                self.dice.choice(self.processes(what)).send_signal(signal.SIGKILL)
            else:
                self._others()[kind]()
        except (psutil.NoSuchProcess, IndexError, FileNotFoundError, ValueError):
            return False
        except Exception as error:  # another fault was under way
            if not is_passing(error):
                raise
            return False
        return True

    def _others(self) -> dict[str, Callable[[], None]]:
        return {
            "trial stopped for a while": self._stop,
            "lock held": self._hold_lock,
            "checkpoint cut off": self._cut_checkpoint,
            "clock stepped": self._step_clock,
            "disk full": self._fill_disk,
            "tracking server killed": lambda: self._restart(self.around.tracking),
            "database killed": lambda: self._restart(self.around.database),
        }

    def _pause(self) -> None:
        time.sleep(self.dice.uniform(0.5, 5.0))

    def _stop(self) -> None:
        process = self.dice.choice(self.processes("trial"))
        process.suspend()
        self._pause()
        process.resume()

    def _hold_lock(self) -> None:
        study = open_storage(self.around.root / "sweeps" / "chaos", self.around.study_url, "chaos")
        with study.exclusive():
            self._pause()

    def _cut_checkpoint(self) -> None:
        path = self.dice.choice(list((self.around.root / "runs").glob("*/last.ckpt")))
        os.truncate(path, self.dice.randrange(path.stat().st_size))
        # a checkpoint is read by the next attempt alone
        self.dice.choice(self.processes("trial")).send_signal(signal.SIGKILL)

    def _step_clock(self) -> None:
        assert self.around.clock is not None
        self.around.clock[:8] = struct.pack("q", self.dice.choice([-3600, -2, 2, 3600]))

    def _fill_disk(self) -> None:
        assert self.around.disk is not None
        ballast = self.around.disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            end = time.monotonic() + FULL_SECONDS
            while time.monotonic() < end:
                for size in (1 << 20, 1 << 12):  # whatever others removed is full again
                    with contextlib.suppress(OSError):
                        while file.write(bytes(size)) == size:
                            pass
                time.sleep(0.05)
        ballast.unlink()

    def _restart(self, server: DatabaseServer | TrackingServer | None) -> None:
        assert server is not None
        server.kill()
        self._pause()
        server.start()


@contextmanager
def surroundings(folder: Path, with_servers: bool) -> Iterator[Surroundings]:
    """Prepare the servers, the disk and the clock of a sweep while the block runs."""
    around = Surroundings(folder, with_servers)
    try:
        yield around
    finally:
        around.close()
