"""The shared memory through which other processes hand over batches: 64 MB in a container."""

import shutil
from pathlib import Path

_FOLDER = Path("/dev/shm")
_PREFETCHED = 2  # batches that each process of a DataLoader makes ahead
_USABLE_SHARE = 0.7  # of the free space: other trainings may use it, too


def fitting_processes(wanted: int, batch_bytes: int) -> int:
    """How many of the wanted processes have room in shared memory for their batches.

    A process that finds no room is killed, or waits forever.

    Args:
        batch_bytes: of the largest batches of all loaders together.
    """
    if not wanted or not _FOLDER.is_dir():
        return wanted
    room = _USABLE_SHARE * shutil.disk_usage(_FOLDER).free
    return min(wanted, int(room // (_PREFETCHED * max(1, batch_bytes))))


def shared_memory_mb() -> int:
    """The size of the shared memory, in MB; 0 if there is none."""
    return shutil.disk_usage(_FOLDER).total // 2**20 if _FOLDER.is_dir() else 0
