"""The inputs of a prediction: images and videos from paths, folders, globs and standard input."""

import glob
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.reading.video_frames import VIDEO_SUFFIXES
from segtune.errors import DataError
from segtune.runtime.temporary import temporary_folder

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Input:
    """A file to predict.

    Attributes:
        output_stem: its path below each folder of the output, without suffix.
        name: its name in results and messages.
    """

    path: Path
    output_stem: Path
    name: str
    video: bool

    @property
    def stamp(self) -> tuple[int, int]:
        """Size and modification time; they show whether the file has changed."""
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns


@contextmanager
def opened(sources: Sequence[str]) -> Iterator[list[Input]]:
    """Find the inputs; standard input becomes a temporary file while the block runs."""
    if STANDARD_INPUT not in sources:
        yield find_inputs(sources)
        return
    with temporary_folder() as folder:
        path = folder / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        if not path.stat().st_size:
            raise DataError(
                "source=-: standard input is empty; give it the bytes of one image or video."
            )
        others = [s for s in sources if s != STANDARD_INPUT]
        first = Input(path, Path("stdin"), "stdin", not _is_image(path))
        yield _with_unique_stems([first, *(find_inputs(others) if others else [])])


def find_inputs(sources: Sequence[str]) -> list[Input]:
    """Return the files of paths, folders (with subfolders) and globs.

    Raises:
        DataError: a source without images or videos.
    """
    inputs: list[Input] = []
    for source in sources:
        path = Path(os.path.expanduser(source))
        if path.is_dir():
            inputs += _inputs_in(path)
        elif path.is_file():
            inputs.append(_input(path, Path(path.name)))
        elif path.exists():
            raise DataError(
                f"source '{source}' is a pipe or a device. Give a file, or pipe its bytes into "
                "source=-"
            )
        else:
            matches = [m for m in glob.glob(str(path), recursive=True) if os.path.isfile(m)]
            if not matches:
                raise DataError(f"source '{source}': no such file, and no file matches it.")
            inputs += [_input(m, Path(m.name)) for m in sorted(map(Path, matches))]
    return _with_unique_stems(inputs)


def _inputs_in(folder: Path) -> list[Input]:
    suffixes = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes)
    if not paths:
        raise DataError(f"source '{folder}' is a folder without images or videos.")
    return [_input(p, p.relative_to(folder)) for p in paths if p.is_file()]


def _input(path: Path, stem: Path) -> Input:
    suffix = path.suffix.lower()
    is_video = suffix in VIDEO_SUFFIXES
    if not is_video and suffix not in IMAGE_SUFFIXES:
        is_video = not _is_image(path)
    return Input(path, stem.with_suffix(""), str(path), is_video)


def _is_image(path: Path) -> bool:
    try:
        with Image.open(path):
            return True
    except UnidentifiedImageError:
        return False
    except (OSError, ValueError, SyntaxError):
        return True  # a damaged image: the decoder reports the error


def _with_unique_stems(inputs: list[Input]) -> list[Input]:
    """Give each input an output stem of its own.

    Inputs that share a stem add their suffix to it (a.jpg beside a.png), then a number.
    """
    shared = Counter(i.output_stem for i in inputs)
    used: Counter[Path] = Counter()
    unique = []
    for item in inputs:
        stem = item.output_stem
        if shared[stem] > 1:
            stem = stem.with_name(item.path.name.replace(".", "_"))
        used[stem] += 1
        if used[stem] > 1:
            stem = stem.with_name(f"{stem.name}_{used[stem]}")
        unique.append(replace(item, output_stem=stem))
    return unique
