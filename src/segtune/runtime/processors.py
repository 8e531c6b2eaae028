"""How many processors this process may use: not more than its affinity and its container allow."""

import math
import os
from pathlib import Path

_ROOT = Path("/")
_V1 = ("cpu", "cpu,cpuacct", "cpuacct,cpu")  # the controller in version 1 of control groups


def available_processors() -> int:
    """The number of processors for pools of threads and for counts of workers, at least 1.

    `taskset`, Slurm and Docker's `--cpuset-cpus` limit the affinity; Docker's `--cpus` and
    Kubernetes' limits are quotas of a control group. More threads than that would wait for each
    other.
    """
    if hasattr(os, "sched_getaffinity"):
        number = len(os.sched_getaffinity(0))
    else:  # another system than Linux
        number = os.cpu_count() or 1
    return max(1, math.ceil(min(number, _quota())))


def _quota() -> float:
    """The smallest quota of the control groups around this process, in processors."""
    try:
        lines = (_ROOT / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, group = line.split(":", 2)
        mounts = {"": "sys/fs/cgroup"} | {name: f"sys/fs/cgroup/{name}" for name in _V1}
        if controllers not in mounts:
            continue
        folder = _ROOT / mounts[controllers] / group.lstrip("/")
        # in a container the group may have another path, but its quota stands at the mount
        for parent in [folder, *folder.parents]:
            quotas.append(_quota_in(parent))
            if parent == _ROOT / mounts[controllers]:
                break
    return min(quotas)


def _quota_in(folder: Path) -> float:
    """The quota of one control group, in processors; infinite if it has none."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        return float(quota) / float(period) if quota not in ("max", "-1") else math.inf
    except (OSError, ValueError):
        return math.inf
