"""Files, folders and videos in; masks, overlays and regions out. A bad file is reported and the rest go on."""

import glob
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtune.data.images import IMAGE_SUFFIXES
from segtune.errors import ConfigError, DataError, StorageError
from segtune.inference.regions import SCHEMA_VERSION, find_regions
from segtune.inference.segmenter import Segmentation, Segmenter
from segtune.inference.video import VIDEO_SUFFIXES, segment_video

Say = Callable[[str], None]


@dataclass
class Prediction:
    """What `predict` wrote.

    Attributes:
        failed: file -> why it was left out.
    """

    output: Path
    images: int = 0
    frames: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object, for scripts."""
        return {
            "output": str(self.output),
            "regions": str(self.output / "regions.json"),
            "images": self.images,
            "frames": self.frames,
            "failed": self.failed,
        }


def find_inputs(sources: Sequence[str]) -> list[tuple[Path, Path]]:
    """The files that paths, folders (searched whole) and globs lead to, each with its place in the output.

    Raises:
        DataError: a source that leads nowhere, or to no image or video.
    """
    found: list[tuple[Path, Path]] = []
    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
            found.extend((p, p.relative_to(path)) for p in inside)
            if not inside:
                raise DataError(f"source '{source}' is a folder without images or videos.")
        elif path.is_file():
            found.append((path, Path(path.name)))
        else:
            matches = sorted(Path(m) for m in glob.glob(source, recursive=True) if os.path.isfile(m))
            if not matches:
                raise DataError(f"source '{source}': no such file, and no file matches it.")
            found.extend((m, Path(m.name)) for m in matches)
    return found


def predict(
    segmenter: Segmenter,
    sources: Sequence[str],
    output: Path,
    *,
    model: str = "",
    split: str = "concept",
    overwrite: bool = False,
    say: Say = lambda _: None,
) -> Prediction:
    """Writes `masks/`, `overlays/` and `regions.json` for all inputs; outputs mirror the input's folders.

    Args:
        model: the URI that regions.json names.
        split: `concept` or `components`; see `find_regions`.
        overwrite: replace the results of an earlier call.

    Raises:
        ConfigError: the output holds results already, or an unknown split.
        DataError: no input, or none that could be read.
        StorageError: the output cannot be written.
    """
    if split not in ("concept", "components"):
        raise ConfigError(f"split={split}: allowed are concept and components.")
    inputs = find_inputs(sources)
    target = output / "regions.json"
    if target.exists() and not overwrite:
        raise ConfigError(f"output '{output}' holds results already. Choose another output=DIR, or add overwrite=true.")
    result = Prediction(output)
    images: list[dict[str, Any]] = []
    videos: list[dict[str, Any]] = []
    try:
        output.mkdir(parents=True, exist_ok=True)
        for number, (path, place) in enumerate(inputs, 1):
            try:
                if path.suffix.lower() in VIDEO_SUFFIXES:
                    videos.append(_one_video(segmenter, path, _unique(place, inputs), output, split, say))
                    result.frames += len(videos[-1]["frames"])
                else:
                    images.append(_one_image(segmenter, path, _unique(place, inputs), output, split))
                    result.images += 1
            except DataError as error:
                result.failed[str(path)] = str(error)
                say(f"left out: {error}")
            if number % 20 == 0 or number == len(inputs):
                say(f"{number}/{len(inputs)} files")
        head = {"schema_version": SCHEMA_VERSION, "model": model, "classes": segmenter.classes.to_json()}
        body = {"images": images, "videos": videos, "failed": result.failed}
        _write_text(target, json.dumps({**head, **body}, ensure_ascii=False, indent=1))
    except OSError as error:
        raise StorageError(f"output '{output}' cannot be written: {error}.") from None
    if not images and not videos:
        raise DataError(f"none of {len(inputs)} files could be read; the first: {next(iter(result.failed.values()))}")
    return result


def _one_image(segmenter: Segmenter, path: Path, place: Path, output: Path, split: str) -> dict[str, Any]:
    found = segmenter.segment(path)
    write_png(output / "masks" / place.with_suffix(".png"), found.mask)
    write_png(output / "overlays" / place.with_suffix(".png"), found.overlay())
    height, width = found.mask.shape
    return {"file": str(path), "width": width, "height": height, "regions": _regions(found, split)}


def _one_video(segmenter: Segmenter, path: Path, place: Path, output: Path, split: str, say: Say) -> dict[str, Any]:
    overlay = output / "overlays" / place.with_suffix(".mp4")
    overlay.parent.mkdir(parents=True, exist_ok=True)
    frames: list[dict[str, Any]] = []
    size = (0, 0)

    def progress(done: int) -> None:
        if done % 50 == 0:
            say(f"{path.name}: {done} frames")

    for frame, found in segment_video(segmenter, path, overlay, progress):
        write_png(output / "masks" / place.with_suffix("") / f"{frame.number:06d}.png", found.mask)
        frames.append({"number": frame.number, "time": round(frame.time, 6), "regions": _regions(found, split)})
        size = found.mask.shape
    return {"file": str(path), "width": size[1], "height": size[0], "frames": frames}


def _regions(found: Segmentation, split: str) -> list[dict[str, Any]]:
    regions = found.regions if split == "concept" else find_regions(found.mask, found.confidence, found.classes, split)
    return [r.to_json() for r in regions]


def _unique(place: Path, inputs: Iterable[tuple[Path, Path]]) -> Path:
    """The place, with the suffix in its name where two inputs would share an output (a.jpg beside a.png)."""
    same = [p for _, p in inputs if p.with_suffix("") == place.with_suffix("")]
    return place if len(same) == 1 else place.with_name(place.name.replace(".", "_"))


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes a PNG whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    Image.fromarray(pixels).save(temporary, format="PNG", compress_level=3)
    temporary.replace(path)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
