"""Files of lines that survive kills and full disks: a line is in the file whole, or not at all.

The caller holds a lock over all processes that write the file.
"""

import os
from pathlib import Path
from typing import IO

_BLOCK = 1 << 16


def append_whole(path: Path, text: bytes) -> None:
    """Append complete lines to an existing file, in place of an incomplete last one.

    A failed write, as on a full disk, leaves the complete lines as they were.

    Raises:
        OSError: the lines cannot be written.
    """
    with path.open("r+b", buffering=0) as file:
        end = end_of_last_line(file)
        try:
            file.seek(end)
            left = memoryview(text)
            while left:
                left = left[file.write(left) or 0 :]
            file.truncate()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, end)
            raise


def end_of_last_line(file: IO[bytes]) -> int:
    """Return the end of the last complete line, in bytes.

    A process that is killed while it writes leaves an incomplete line behind.
    """
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _BLOCK)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
