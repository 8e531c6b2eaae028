"""A picture of three samples: each image beside its mask as it is read, and the classes."""

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from segtune.classes import IGNORE_INDEX, distinct_color
from segtune.data.reading.images import read_image, resize_image, resize_mask
from segtune.data.source.files import read_bytes
from segtune.data.source.layout import Source
from segtune.data.source.pairs import Pair
from segtune.errors import DataError

_SAMPLES = 3
_HEIGHT = 200  # of a sample, in pixels
_ROW = 16  # height of a line of text
_IGNORED = (60, 60, 60)


def draw_samples(source: Source) -> Image.Image | None:
    """Three samples of the first split, from its beginning, middle and end.

    Samples that cannot be read are left out, as images that need `dataset.value_range`. None if no
    sample is left.
    """
    split = source.splits()[0]
    pairs = source.pairs(split)
    places = sorted({round(i * (len(pairs) - 1) / (_SAMPLES - 1)) for i in range(_SAMPLES)})
    views, shown = [], set[int]()
    for place in places:
        with suppress(DataError):
            view, ids = _views(source, pairs[place])
            views.append(view)
            shown |= ids
    if not views:
        return None
    names = source.classes.names
    legend = [(names[i], distinct_color(i)) for i in sorted(shown) if i < len(names)]
    if IGNORE_INDEX in shown:
        legend.append(("ignored", _IGNORED))
    width = max(view.shape[1] for view in views)
    height = sum(view.shape[0] for view in views)
    picture = Image.new("RGB", (width + 160, max(height, _ROW * (len(legend) + 1))), "white")
    top = 0
    for view in views:
        picture.paste(Image.fromarray(view), (0, top))
        top += view.shape[0]
    draw = ImageDraw.Draw(picture)
    for row, (name, color) in enumerate(legend):
        y = _ROW * row + 4
        draw.rectangle((width + 6, y, width + 16, y + 10), fill=color)
        draw.text((width + 22, y - 1), name.encode("ascii", "replace").decode(), fill="black")
    return picture


def _views(source: Source, pair: Pair) -> tuple[NDArray[np.uint8], set[int]]:
    """The image and its mask in colours, side by side, (H, W, 3); and the ids of the mask."""
    image = read_image(pair.image, upright=pair.upright, reading=source.reading)
    ids = source.masks.read(read_bytes(pair.mask), str(pair.mask), pair.form)
    width = max(1, round(image.shape[1] * _HEIGHT / image.shape[0]))
    colors = np.full((256, 3), _IGNORED, np.uint8)
    for index in range(len(source.classes)):
        colors[index] = distinct_color(index)
    shown = colors[resize_mask(ids, _HEIGHT, width)]
    view = np.concatenate([resize_image(image, _HEIGHT, width), shown], axis=1)
    return view, set(np.unique(ids).tolist())


def write_samples(source: Source, path: Path) -> bool:
    """Write the picture of a few samples as PNG; return whether one could be read."""
    picture = draw_samples(source)
    if picture is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return True
