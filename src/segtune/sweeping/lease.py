"""A lease on a running trial: who works on it, and until when that is believed."""

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
from segtune.sweeping.records import LEASE
from segtune.sweeping.storage import StudyStorage


def identify() -> dict[str, Any]:
    """This process, so that others on the same machine can tell whether it still lives."""
    return {
        "worker": f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}",
        "machine": _machine(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
    }


def is_over(lease: Mapping[str, Any] | None, now: float) -> bool:
    """Whether nobody works on a trial any more: its lease ran out, or its process on this machine is gone."""
    if lease is None or now > lease["expires"]:
        return True
    if lease["machine"] != _machine():
        return False
    try:
        return (
            _born(lease["pid"]) != lease["born"]
            or psutil.Process(lease["pid"]).status() == psutil.STATUS_ZOMBIE
        )
    except (psutil.NoSuchProcess, FileNotFoundError):
        return True


class Lease:
    """Keeps a trial's lease alive in the background, and tells when it was lost.

    Args:
        holder: of `identify`.
        seconds: how long a sign of life is believed; it is renewed three times as often.
        on_renewal: called at each renewal, for what else is to be looked at that often.
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
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self.renew()

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def renew(self) -> None:
        """Extends the lease from now on.

        Raises:
            LeaseLost: it ran out, and the trial was given to another worker.
        """
        asked = time.monotonic()
        try:
            expires = self.storage.now() + self.seconds
            self.trial.storage.set_trial_user_attr(
                self.trial._trial_id, LEASE, {**self.holder, "expires": expires}
            )
        except UpdateFinishedTrialError:
            self.lost = True
        self.check_lost()
        self.renewed = asked

    def check(self) -> None:
        """To be called before anything is written: free as long as the last renewal is young.

        Raises:
            LeaseLost: another worker has the trial now.
        """
        if (
            not self.lost and time.monotonic() - self.renewed > self.seconds / 2
        ):  # was this process frozen?
            self.renew()
        self.check_lost()

    def check_lost(self) -> None:
        """Raises LeaseLost once it is known."""
        if self.lost:
            raise LeaseLost(
                f"trial {self.trial.number} was taken over by another worker; this one leaves it."
            )

    def _keep(self) -> None:
        while not self._over.wait(self.seconds / 3):
            try:
                self.renew()
                self._on_renewal()
            except LeaseLost:
                return
            except (
                Exception
            ):  # the storage is away: the next renewal may find it again, or the lease runs out
                continue


def _born(pid: int) -> str | float:
    """When a process began: the boot and the clock ticks since then, which no step of the clock changes."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.is_file():  # another system than Linux
        return psutil.Process(pid).create_time()
    fields = (
        Path(f"/proc/{pid}/stat")
        .read_text(encoding="utf-8", errors="replace")
        .rpartition(")")[2]
        .split()
    )
    return f"{boot.read_text(encoding='ascii').strip()}/{fields[19]}"


def _machine() -> str:
    """This machine, and this namespace of process ids in it: two containers may share a name."""
    try:
        return f"{os.uname().nodename}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return os.uname().nodename
