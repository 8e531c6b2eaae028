"""What there is to predict: the images and videos that paths, folders, globs and standard input lead to."""

import glob
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, UnidentifiedImageError

from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.errors import DataError
from segtune.inference.media.video import VIDEO_SUFFIXES

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Input:
    """A file, and its place under each folder of the output, without suffix.

    Attributes:
        name: what results and messages call it.
    """

    path: Path
    place: Path
    name: str
    video: bool

    @property
    def stamp(self) -> tuple[int, int]:
        """Size and time of change: tells whether it is still the file that was predicted."""
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns


@contextmanager
def opened(sources: Sequence[str]) -> Iterator[list[Input]]:
    """The inputs that `find_inputs` finds; what came over standard input is kept in a file while the block runs."""
    if STANDARD_INPUT not in sources:
        yield find_inputs(sources)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        if not path.stat().st_size:
            raise DataError(
                "source=-: standard input is empty; give it the bytes of one image or video."
            )
        others = [s for s in sources if s != STANDARD_INPUT]
        first = Input(path, Path("stdin"), "stdin", not _is_image(path))
        yield _apart([first, *(find_inputs(others) if others else [])])


def find_inputs(sources: Sequence[str]) -> list[Input]:
    """The files that paths, folders (searched whole) and globs lead to, each with its place in the output.

    Raises:
        DataError: a source that leads nowhere, or to no image or video.
    """
    found: list[Input] = []
    for source in sources:
        path = Path(os.path.expanduser(source))
        if path.is_dir():
            inside = sorted(
                p for p in path.rglob("*") if p.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
            )
            found.extend(_input(p, p.relative_to(path)) for p in inside if p.is_file())
            if not inside:
                raise DataError(f"source '{source}' is a folder without images or videos.")
        elif path.exists():
            found.append(_input(path, Path(path.name)))
        else:
            matches = sorted(
                Path(m) for m in glob.glob(str(path), recursive=True) if os.path.isfile(m)
            )
            if not matches:
                raise DataError(f"source '{source}': no such file, and no file matches it.")
            found.extend(_input(m, Path(m.name)) for m in matches)
    return _apart(found)


def _input(path: Path, place: Path) -> Input:
    suffix = path.suffix.lower()
    video = suffix in VIDEO_SUFFIXES or (suffix not in IMAGE_SUFFIXES and not _is_image(path))
    return Input(path, place.with_suffix(""), str(path), video)


def _is_image(path: Path) -> bool:
    try:
        with Image.open(path):
            return True
    except UnidentifiedImageError:
        return False
    except (OSError, ValueError, SyntaxError):
        return True  # begins as an image does: whoever decodes it says what is wrong with it


def _apart(inputs: list[Input]) -> list[Input]:
    """Inputs with places of their own: the suffix where a.jpg lies beside a.png, a number where names repeat."""
    shared = Counter(i.place for i in inputs)
    named = [
        replace(i, place=i.place.with_name(i.path.name.replace(".", "_")))
        if shared[i.place] > 1
        else i
        for i in inputs
    ]
    taken: Counter[Path] = Counter()
    found = []
    for item in named:
        taken[item.place] += 1
        number = taken[item.place]
        found.append(
            item
            if number == 1
            else replace(item, place=item.place.with_name(f"{item.place.name}_{number}"))
        )
    return found
