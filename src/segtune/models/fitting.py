"""Limits of a model: image sizes that its encoder takes, and steps that fit into memory."""

import copy
import re
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from segtune.errors import ConfigError, OutOfMemory
from segtune.models.segmentation_model import SegmentationModel

_SHAPE_ERROR = re.compile(r"size of tensor|must match|shape|Sizes of tensors", re.IGNORECASE)
_MEMORY_ERROR = re.compile(
    r"out of memory|can't allocate memory|bad alloc|std::bad_alloc", re.IGNORECASE
)
_LARGEST, _STEP = 1024, 32  # of the squares that are tried


def check_image_size(model: nn.Module, size: tuple[int, int], encoder: str) -> None:
    """Refuse an image size (H, W) that the encoder cannot take, and name the nearest square.

    Nothing is computed: only shapes go through a copy of the model.

    Raises:
        ConfigError: the encoder has a fixed input size, or windows that do not divide the padded
            image.
    """
    if not isinstance(model, SegmentationModel) or _takes_any_size(model):
        return
    shapes_only = copy.deepcopy(model).to("meta").eval()
    reason = _refusal(shapes_only, size)
    if reason is None:
        return
    start = -(-max(size) // _STEP) * _STEP
    side = _first_accepted(shapes_only, range(start, _LARGEST + 1, _STEP))
    if side is None:
        side = _first_accepted(shapes_only, range(start, 0, -_STEP))
    remedy = "choose another hp.encoder."
    if side is not None:
        remedy = (
            f"the next that it takes is {side}x{side}: set hp.image_size=[{side},{side}] and, if "
            f"you crop, augment.crop_size={side} augment.crop_start={side}."
        )
    height, width = size
    raise ConfigError(
        f"hp.image_size: encoder '{encoder}' takes no images of {width}x{height} ({reason}); "
        + remedy
    )


def _takes_any_size(model: nn.Module) -> bool:
    """Whether only convolutions and norms have weights: no positions, no windows."""
    weighted = (m for m in model.modules() if next(m.parameters(recurse=False), None) is not None)
    return all(
        isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d | nn.GroupNorm)
        for m in weighted
    )


def _first_accepted(model: nn.Module, sides: Iterable[int]) -> int | None:
    return next((side for side in sides if _refusal(model, (side, side)) is None), None)


def _refusal(model: nn.Module, size: tuple[int, int]) -> str | None:
    """Why a model on the meta device refuses images of a size (H, W); None if it takes them."""
    try:
        with torch.no_grad():
            model(torch.zeros((1, 3, *size), dtype=torch.uint8, device="meta"))
    except NotImplementedError:
        return None  # an operation without a form for shapes alone: the first step will show
    except (AssertionError, ValueError) as error:
        return _in_one_line(error)
    except RuntimeError as error:
        return _in_one_line(error) if _SHAPE_ERROR.search(str(error)) else None
    return None


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or "no reason given"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means too little memory, on any device."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_MEMORY_ERROR.search(str(error)))


def fitting_parts(attempt: Callable[[int], None], divisors: Sequence[int]) -> int:
    """The first number of parts with which `attempt(parts)` does not run out of memory.

    Args:
        divisors: numbers of parts to try, in this order.

    Raises:
        OutOfMemory: no number of parts fits.

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
        "not even one image at a time fits into memory: lower hp.image_size or augment.crop_size, "
        "or take a smaller hp.encoder or hp.width."
    )
