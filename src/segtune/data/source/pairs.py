"""Image/mask pairs, and which classes their masks show."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segtune.config.dataset_schema import MaskFormat
from segtune.data.reading.masks import MaskReader
from segtune.data.source.files import cache_dir, digests, read_bytes
from segtune.runtime.cache_store import CacheStore
from segtune.runtime.processors import available_processors


@dataclass(frozen=True)
class Pair:
    """One image and its mask.

    Attributes:
        name: the image's path below the folder of images, without its suffix.
        upright: whether the image's EXIF orientation is applied.
        form: how the mask is stored, where that differs from the dataset's other masks.
    """

    name: str
    image: Path
    mask: Path
    upright: bool = True
    form: MaskFormat | None = None


def class_presence(
    pairs: Sequence[Pair], reader: MaskReader, table_hash: "hashlib._Hash"
) -> NDArray[np.bool_]:
    """Which classes each mask shows, (N, C); cached, since every mask must be decoded.

    Args:
        table_hash: of the class table and how stored ids become classes.
    """
    state = table_hash.copy()
    for pair, digest in zip(pairs, digests([pair.mask for pair in pairs]), strict=True):
        state.update(pair.name.encode() + digest)

    def shown(pair: Pair) -> NDArray[np.bool_]:
        ids = reader.read(read_bytes(pair.mask), str(pair.mask), pair.form)
        return np.bincount(ids.ravel(), minlength=256)[: len(reader.classes)] > 0

    def build(folder: Path) -> None:
        with ThreadPoolExecutor(available_processors()) as pool:
            np.save(folder / "presence.npy", np.array(list(pool.map(shown, pairs))))

    return CacheStore(cache_dir() / "presence").open(
        state.hexdigest()[:24],
        build,
        read=lambda folder: np.asarray(np.load(folder / "presence.npy"), bool),
    )
