"""What becomes of the memory that a step frees."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# of glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_MB = 2**20


@contextmanager
def kept_memory() -> Iterator[None]:
    """While the block, or the function that this decorates, runs, freed memory stays with the process for what comes.

    By itself glibc maps a block of more than 32 MB, as the activations of a batch are, each time anew, and the kernel
    fills its pages with zeros when they are touched: a tenth of a large step on two cores (LOG.md). Afterwards memory
    is given back, and such blocks are mapped again, unless a gap of the heap has room for them. These contexts do not
    nest. With another allocator nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:  # what glibc comes to by itself, once large blocks were freed
        libc.mallopt(_MMAP_MAX, 65536)
        libc.mallopt(_MMAP_THRESHOLD, 32 * _MB)
        libc.mallopt(_TRIM_THRESHOLD, 64 * _MB)
        libc.malloc_trim(0)
