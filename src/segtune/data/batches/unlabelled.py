"""Train images without masks, decoded once into the cache folder: a teacher labels them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segtune.config.dataset_schema import CacheConfig
from segtune.data.batches.decoded import Array, Packed
from segtune.data.reading.images import IMAGE_SUFFIXES, read_image, resize_image, target_size
from segtune.data.source.files import cache_dir, digests, walk
from segtune.data.source.layout import Source
from segtune.errors import DataError
from segtune.runtime.cache_store import CacheStore
from segtune.runtime.log import Log, silent
from segtune.runtime.progress import ProgressReporter

_VERSION = 1  # raise it if the same files decode to other arrays
_IMAGES, _INDEX = "images.bin", "index.json"


@dataclass(frozen=True)
class Unlabelled:
    """Images without masks.

    Attributes:
        images: each (h, w, 3) uint8 RGB at the run's image size.
        fingerprint: sha256 over the names and the bytes of all files.
    """

    images: Sequence[Array]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.images)


def load_unlabelled(
    source: Source,
    image_size: Sequence[int],
    cache: CacheConfig | None = None,
    say: Log = silent,
) -> Unlabelled | None:
    """Load the images of `dataset.unlabelled`; the first process decodes, all others map them.

    Args:
        image_size: see `target_size`.
        say: receives the progress, and a line for each file that is left out.

    Returns:
        None where the dataset names no such folder.

    Raises:
        DataError: the folder has no image beside those of the dataset, or more than
            `dataset.tolerance` of them do not decode.
    """
    if source.config.unlabelled is None:
        return None
    folder = Path(source.config.unlabelled)
    names = sorted(walk(folder, IMAGE_SUFFIXES)) if folder.is_dir() else []
    if not names:
        raise DataError(
            f"dataset.unlabelled={folder}: no such folder, or no image in it "
            f"({', '.join(IMAGE_SUFFIXES)})."
        )
    hashes = dict(zip(names, digests([folder / name for name in names]), strict=True))
    known = {h for split in source.splits() for h in digests(source.images(split))}
    kept = [name for name in names if hashes[name] not in known]
    if len(kept) < len(names):
        say(f"dataset.unlabelled: {len(names) - len(kept)} images of the dataset are left out")
    if not kept:
        raise DataError(f"dataset.unlabelled={folder} holds images of the dataset alone.")
    files = [folder / name for name in kept]
    digest = hashlib.sha256(json.dumps(kept).encode() + b"".join(hashes[name] for name in kept))
    facts = [_VERSION, digest.hexdigest(), list(image_size), source.reading.to_json()]
    facts.append(source.config.tolerance)
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    store = CacheStore(cache_dir() / "unlabelled", (cache or CacheConfig()).max_gb * 1e9)
    images = store.open(
        key,
        build=lambda target: _build(source, files, tuple(image_size), target, say),
        read=_open,
    )
    return Unlabelled(images, digest.hexdigest())


def _build(
    source: Source, files: Sequence[Path], image_size: tuple[int, ...], target: Path, say: Log
) -> None:
    shapes, unreadable = [], list[str]()
    with (target / _IMAGES).open("wb") as packed, ProgressReporter(say) as report:
        for number, file in enumerate(files):
            report("unlabelled images decoded", number + 1, len(files))
            try:
                image = read_image(file, reading=source.reading)
            except DataError as error:
                unreadable.append(str(error))
                report.say(f"left out: {error}")
                continue
            image = resize_image(image, *target_size(image.shape[0], image.shape[1], image_size))
            packed.write(np.ascontiguousarray(image).data)
            shapes.append(image.shape)
    if not shapes or len(unreadable) > source.config.tolerance * len(files):
        raise DataError(
            f"dataset.unlabelled: {len(unreadable)} of {len(files)} images cannot be read, more "
            f"than dataset.tolerance={source.config.tolerance:g}. The first: {unreadable[0]}"
        )
    (target / _INDEX).write_text(json.dumps(shapes), encoding="utf-8")


def _open(folder: Path) -> Packed:
    shapes = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    return Packed(folder / _IMAGES, shapes)
