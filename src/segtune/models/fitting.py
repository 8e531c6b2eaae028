"""What fits: image sizes that an encoder takes, and steps that memory holds."""

import copy
import re
from collections.abc import Callable, Sequence

import torch
from torch import nn

from segtune.errors import ConfigError, OutOfMemory
from segtune.models.segmentation_model import SegmentationModel

_SHAPES = re.compile(r"size of tensor|must match|shape|Sizes of tensors", re.IGNORECASE)
_MEMORY = re.compile(r"out of memory|can't allocate memory|bad alloc|std::bad_alloc", re.IGNORECASE)
_LARGEST = 1024


def check_image_size(model: nn.Module, size: tuple[int, int], encoder: str) -> None:
    """Refuses an image size (H, W) that the encoder cannot take, and names the next square that it can.

    Nothing is computed: shapes alone go through a copy of the model.

    Raises:
        ConfigError: the encoder has a fixed input size, or windows that do not divide the padded image.
    """
    if not isinstance(model, SegmentationModel) or _takes_any_size(model):
        return
    bare = copy.deepcopy(model).to("meta").eval()
    reason = _refusal(bare, size)
    if reason is None:
        return
    start = 32 * -(-max(size) // 32)
    fitting = next(
        (s for s in range(start, _LARGEST + 1, 32) if _refusal(bare, (s, s)) is None), None
    )
    if fitting is None:
        fitting = next((s for s in range(start, 0, -32) if _refusal(bare, (s, s)) is None), None)
    height, width = size
    way = (
        f"the next that it takes is {fitting}x{fitting}: set hp.image_size=[{fitting},{fitting}]"
        if fitting
        else ""
    )
    crops = (
        f" and, if you crop, augment.crop_size={fitting} augment.crop_start={fitting}"
        if fitting
        else ""
    )
    raise ConfigError(
        f"hp.image_size: encoder '{encoder}' takes no images of {width}x{height} ({reason}); "
        + (f"{way}{crops}." if fitting else "choose another hp.encoder.")
    )


def _takes_any_size(model: nn.Module) -> bool:
    """Whether nothing but convolutions and norms has weights: no positions, no windows."""
    weighted = (m for m in model.modules() if next(m.parameters(recurse=False), None) is not None)
    return all(
        isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d | nn.GroupNorm)
        for m in weighted
    )


def _refusal(model: nn.Module, size: tuple[int, int]) -> str | None:
    try:
        with torch.no_grad():
            model(torch.zeros((1, 3, *size), dtype=torch.uint8, device="meta"))
    except (
        NotImplementedError
    ):  # an operation that has no form for shapes alone is tried in the first step
        return None
    except (AssertionError, ValueError) as error:
        return _in_one_line(error)
    except RuntimeError as error:
        return _in_one_line(error) if _SHAPES.search(str(error)) else None
    return None


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or "no reason given"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not enough, on whichever device."""
    return isinstance(error, MemoryError) or bool(
        isinstance(error, RuntimeError) and _MEMORY.search(str(error))
    )


def fitting_parts(attempt: Callable[[int], None], divisors: Sequence[int]) -> int:
    """The fewest parts of a batch with which `attempt(parts)` does not run out of memory.

    Raises:
        OutOfMemory: none of them.

    >>> def attempt(parts):
    ...     if parts < 3:
    ...         raise MemoryError
    >>> fitting_parts(attempt, [1, 2, 4, 8])
    4
    """
    for parts in divisors:
        try:
            attempt(parts)
            return parts
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise OutOfMemory(
        "not even one image at a time fits into memory: lower hp.image_size or augment.crop_size, or take a smaller "
        "hp.encoder or hp.width."
    )
