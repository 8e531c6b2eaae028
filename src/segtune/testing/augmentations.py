"""The contract of an augmentation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from segtune.classes import IGNORE_INDEX


def check_augmentation(change: Callable[..., Any], **options: Any) -> None:
    """Check an augmentation: a function (image, mask, rng, **options), or a class of the options.

    Sizes and types stay, no id appears that the mask did not hold (except 255), and the same
    generator gives the same result.

    Raises:
        AssertionError: one of these does not hold.
    """
    part = change(**options) if isinstance(change, type) else change
    more = {} if isinstance(change, type) else options
    drawn = np.random.default_rng(0)
    image = drawn.integers(0, 256, (48, 64, 3), np.uint8)
    mask = drawn.integers(0, 3, (48, 64), np.uint8)
    for seed in range(20):
        first, second = (
            part(image.copy(), mask.copy(), np.random.default_rng(seed), **more) for _ in range(2)
        )
        assert isinstance(first, tuple) and len(first) == 2, "it does not return (image, mask)"
        for name, array, before in zip(("image", "mask"), first, (image, mask), strict=True):
            found = (array.shape, array.dtype)
            assert found == (before.shape, before.dtype), f"the {name} becomes {found}"
        new = set(np.unique(first[1])) - {*np.unique(mask), IGNORE_INDEX}
        assert not new, f"the mask holds new ids {sorted(new)}"
        same = all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
        assert same, "the same generator gives two results"
