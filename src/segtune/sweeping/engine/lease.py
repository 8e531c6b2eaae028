"""A lease on a running trial: the process that works on it, and how often that renewed it.

A lease holds no time of day, so no step of a clock ends it. Its holder counts renewals. Another
process takes a trial over when the count stood still for the seconds of a lease, on the clock of
the process that watches. No process knows the clock of another machine, nor needs it.
"""

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

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def identify() -> dict[str, Any]:
    """Describe this process, so that others on the same machine see whether it is alive."""
    return {
        "worker": f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}",
        "machine": _machine(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
    }


class LeaseWatch:
    """Watches the leases of other processes.

    Args:
        seconds: without a renewal after which a lease is over.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # by the number of the trial: its lease, and when this process first saw it so
        self._seen: dict[int, tuple[Mapping[str, Any] | None, float]] = {}

    def is_over(self, number: int, lease: Mapping[str, Any] | None) -> bool:
        """Return whether a trial's process on this machine is gone, or does not renew its lease.

        Args:
            number: of the trial.
            lease: as the study records it; None if the worker died before it wrote one.
        """
        now = time.monotonic()  # stands still while the machine sleeps, as the workers on it do
        known = self._seen.get(number)
        if known is None or known[0] != lease:
            self._seen[number] = known = lease, now
        return lease is None or is_gone(lease) or now - known[1] > self.seconds


def is_gone(lease: Mapping[str, Any]) -> bool:
    """Return whether the process of a lease was on this machine and has ended."""
    if lease["machine"] != _machine():
        return False
    pid = lease["pid"]
    try:
        return _born(pid) != lease["born"] or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, FileNotFoundError):
        return True


def new_lease(holder: Mapping[str, Any], count: int = 0) -> dict[str, Any]:
    """Return a lease as the study records it, after `count` renewals."""
    return {**holder, "count": count}


class Lease:
    """Renews a trial's lease in the background, and notices its loss.

    Args:
        holder: of `identify`.
        seconds: for which one renewal is valid; the lease is renewed three times as often.
        on_renewal: called after each renewal.
    """

    def __init__(
        self,
        trial: Trial,
        holder: Mapping[str, Any],
        seconds: float,
        on_renewal: Callable[[], None] = lambda: None,
    ) -> None:
        self.trial, self.holder, self.seconds = trial, dict(holder), seconds
        self.lost, self._count = False, 0
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
        asked_at, self._count = _seconds_with_sleep(), self._count + 1
        try:
            self.trial.storage.set_trial_user_attr(
                self.trial._trial_id, LEASE, new_lease(self.holder, self._count)
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
        # the background thread renews more often, unless this process or the machine was frozen
        if not self.lost and _seconds_with_sleep() - self.renewed > self.seconds / 2:
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


def _seconds_with_sleep() -> float:
    """Return the seconds of a clock that no step changes and that runs while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def _born(pid: int) -> str | float:
    """Return a process's start in clock ticks since boot, which no step of the clock changes."""
    if not _BOOT.is_file():  # another system than Linux
        return psutil.Process(pid).create_time()
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    fields = stat.rpartition(")")[2].split()  # the name in front may hold spaces
    return fields[19]


def _machine() -> str:
    """Return the boot of this machine and the namespace of its process ids.

    Two machines may share a name. Process ids mean nothing in another boot or another container.
    """
    try:
        boot = _BOOT.read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return os.uname().nodename
