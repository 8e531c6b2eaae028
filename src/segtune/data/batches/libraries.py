"""Lists of transforms of other libraries as an augmentation: torchvision v2 and albumentations.

A list names classes by `_target_`, as Hydra does. Only transforms of the library itself are taken:
a config may come from a stranger's record, and must not name code to run.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.data.batches.view import FILL
from segtune.errors import ConfigError, nearest

_TARGET = "_target_"
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Steps = list[dict[str, Any]]


class Torchvision:
    """Transforms of `torchvision.transforms.v2`, on image and mask together.

    Pixels that a transform uncovers get ImageNet's mean colour, and are ignored in the mask.

    Args:
        steps: each {_target_: RandomPerspective, distortion_scale: 0.3}; transforms within a
            transform, as of RandomApply, are written in the same way.

    Raises:
        ConfigError: no such transform, or an argument that it does not take.
    """

    def __init__(self, steps: Steps = []) -> None:  # noqa: B006 - options are declared by defaults, and it is only read
        self._steps = _built(
            steps, "torchvision", "torchvision.transforms.v2", ("Transform",), _fill
        )

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator
    ) -> Pair:
        """Change image (H, W, 3) and mask (H, W)."""
        from torchvision import tv_tensors

        pixels = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
        ids = tv_tensors.Mask(torch.from_numpy(mask))
        # torchvision draws from torch's own generator, from which the training draws as well
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63)))
            for step in self._steps:
                pixels, ids = step(pixels, ids)
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), ids.numpy()


class Albumentations:
    """Transforms of albumentations, on image and mask together; the library is not a dependency.

    Args:
        steps: each {_target_: ElasticTransform, alpha: 1.0, p: 0.5}. Pixels that a transform
            uncovers are ignored where it takes `fill_mask`.

    Raises:
        ConfigError: the library is not installed, no such transform, or an argument that it does
            not take.
    """

    def __init__(self, steps: Steps = []) -> None:  # noqa: B006 - options are declared by defaults, and it is only read
        bases = ("BasicTransform", "BaseCompose")
        built = _built(steps, "albumentations", "albumentations", bases, _fill_mask)
        self._compose = import_module("albumentations").Compose(built)

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator
    ) -> Pair:
        """Change image (H, W, 3) and mask (H, W)."""
        self._compose.set_random_seed(int(rng.integers(2**31)))
        changed = self._compose(image=image, mask=mask)
        return changed["image"], changed["mask"]


def _built(
    steps: Sequence[Mapping[str, Any]],
    name: str,
    module: str,
    bases: tuple[str, ...],
    default: Callable[[type, dict[str, Any]], dict[str, Any]],
) -> list[Any]:
    """Build the transforms of a list.

    Args:
        name: of the augmentation, for messages.
        module: that holds the classes, and `bases`, from which they derive.
        default: completes the arguments of a class.
    """
    try:
        library = import_module(module)
    except ImportError:
        raise ConfigError(
            f"augment.parts.{name}: {name} is not installed. Install it: pip install {name}"
        ) from None
    kinds = {key: kind for key, kind in vars(library).items() if inspect.isclass(kind)}
    own = {key: kind for key, kind in kinds.items() if _derives(kind, bases)}
    return [_step(step, f"augment.parts.{name}.steps", module, own, default) for step in steps]


def _derives(kind: type, bases: tuple[str, ...]) -> bool:
    return any(parent.__name__ in bases for parent in kind.__mro__[1:])


def _step(
    value: Any,
    key: str,
    module: str,
    own: Mapping[str, type],
    default: Callable[[type, dict[str, Any]], dict[str, Any]],
) -> Any:
    """Build one transform, and those within it; other values stay."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_step(item, key, module, own, default) for item in value]
    if not isinstance(value, Mapping) or _TARGET not in value:
        return value
    target = str(value[_TARGET])
    name = target.removeprefix(f"{module}.")
    if name not in own:
        raise ConfigError(
            f"{key}: _target_={target} is no transform of {module}; {nearest(name, own)}"
        )
    arguments = {}
    for argument, given in value.items():
        if argument != _TARGET:
            arguments[argument] = _step(given, key, module, own, default)
    try:
        return own[name](**default(own[name], arguments))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {name}: {error}") from None


def _fill(kind: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Ignore what a transform of torchvision uncovers in the mask."""
    from torchvision import tv_tensors

    if "fill" not in inspect.signature(kind).parameters:
        return arguments
    of_image = arguments.get("fill", list(FILL))
    return {**arguments, "fill": {tv_tensors.Image: of_image, tv_tensors.Mask: IGNORE_INDEX}}


def _fill_mask(kind: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Ignore what a transform of albumentations uncovers in the mask."""
    if "fill_mask" not in inspect.signature(kind).parameters:
        return arguments
    return {"fill_mask": IGNORE_INDEX, **arguments}
