"""Import small sets and compare their masks with the truth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.config.compose import compose
from segtune.data.batches.cache import load_split
from segtune.data.source.layout import Source
from segtune.data.sources import open_source
from tests.data.annotation_sets import H, truth


def open_dataset(
    root: Path, member: str = "folder", say: Callable[[str], None] = lambda _: None
) -> Source:
    words = [f"dataset={member}", f"dataset.root='{root}'"]
    return open_source(compose(words).config.dataset, say)


def import_masks(root: Path, output: Path, *overrides: str) -> dict[str, np.ndarray]:
    """Name -> mask that an import wrote, after the dataset was loaded as training loads it."""
    result = import_dataset(root, output, *overrides)
    source = open_dataset(output)
    for split in result.counts:
        load_split(source, split, [H])
    return {path.stem: np.array(Image.open(path)) for path in (output / "masks").rglob("*.png")}


def mask_of(output: Path, name: str = "train/photo_0") -> np.ndarray:
    return np.array(Image.open(output / "masks" / f"{name}.png"))


def assert_equals_truth(masks: dict[str, np.ndarray]) -> None:
    assert len(masks) == 4
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, truth(int(name.rpartition("_")[2])))
