"""A lease on a running trial: the process that works on it, and the time until it is trusted."""

import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from optuna import Trial
from optuna.exceptions import UpdateFinishedTrialError

from segtune.errors import LeaseLost
from segtune.sweeping.engine.records import LEASE
from segtune.sweeping.engine.storage import StudyStorage


def identify() -> dict[str, Any]:
    """Describe this process, so that others on the same machine see whether it is alive."""
    return {
        "worker": f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}",
        "machine": _machine(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
    }


def is_over(lease: Mapping[str, Any] | None, now: float) -> bool:
    """Return whether a lease ran out, or its process on this machine is gone."""
    if lease is None or now > lease["expires"]:
        return True
    if lease["machine"] != _machine():
        return False
    pid = lease["pid"]
    try:
        return _born(pid) != lease["born"] or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, FileNotFoundError):
        return True


class Lease:
    """Renews a trial's lease in the background, and notices its loss.

    Args:
        holder: of `identify`.
        seconds: for which one renewal is valid; the lease is renewed three times as often.
        on_renewal: called after each renewal.
    """

    def __init__(
        self,
        storage: StudyStorage,
        trial: Trial,
        holder: Mapping[str, Any],
        seconds: float,
        on_renewal: Callable[[], None] = lambda: None,
    ) -> None:
        self.storage, self.trial, self.holder, self.seconds = storage, trial, dict(holder), seconds
        self.lost = False
        self._on_renewal = on_renewal
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, daemon=True)
        self.renew()

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def renew(self) -> None:
        """Extend the lease from now on.

        Raises:
            LeaseLost: the lease ran out, and another worker has the trial.
        """
        asked_at = time.monotonic()
        try:
            expires = self.storage.now() + self.seconds
            self.trial.storage.set_trial_user_attr(
                self.trial._trial_id, LEASE, {**self.holder, "expires": expires}
            )
        except UpdateFinishedTrialError:
            self.lost = True
        self.check_lost()
        self.renewed = asked_at

    def check(self) -> None:
        """Check the lease before a write; costs nothing as long as the last renewal is recent.

        Raises:
            LeaseLost: another worker has the trial.
        """
        # the background thread renews more often, unless this process was frozen
        if not self.lost and time.monotonic() - self.renewed > self.seconds / 2:
            self.renew()
        self.check_lost()

    def check_lost(self) -> None:
        """Raise LeaseLost if the lease is known to be lost."""
        if self.lost:
            raise LeaseLost(
                f"trial {self.trial.number} was taken over by another worker; this one leaves it."
            )

    def _keep_renewing(self) -> None:
        while not self._ended.wait(self.seconds / 3):
            try:
                self.renew()
                self._on_renewal()
            except LeaseLost:
                return
            except Exception:  # the storage is away: a later renewal may reach it
                continue


def _born(pid: int) -> str | float:
    """Return a process's start as boot id and clock ticks, which no step of the clock changes."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.is_file():  # another system than Linux
        return psutil.Process(pid).create_time()
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    fields = stat.rpartition(")")[2].split()  # the name in front may hold spaces
    return f"{boot.read_text(encoding='ascii').strip()}/{fields[19]}"


def _machine() -> str:
    """Return this machine and its namespace of process ids: two containers may share a name."""
    try:
        return f"{os.uname().nodename}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return os.uname().nodename
