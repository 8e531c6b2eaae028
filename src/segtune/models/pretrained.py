"""Starting from weights that exist: timm's, a safetensors file, or the folder of one's own registered segmenter."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub.constants
import torch
from huggingface_hub.utils import get_session
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segtune.errors import ConfigError
from segtune.models.folder import is_segmenter, read_folder

_PREFIXES = ("", "net.", "encoder.", "net.encoder.", "net.encoder.model.")


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Loads from the model hub while the block runs, or from its cache alone where the hub does not answer in seconds.

    Left to itself, the hub's client tries for a minute before it says that there is no network.
    """
    hub = huggingface_hub.constants
    before = hub.HF_HUB_OFFLINE
    try:
        if not before:
            get_session().head(hub.ENDPOINT, timeout=5)
    except (
        Exception
    ):  # whatever its HTTP client raises: no name, no route, no answer, a proxy's refusal
        hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def copy_weights(model: nn.Module, path: Path, class_names: Sequence[str]) -> int:
    """Copies every tensor that fits by name and shape; of the layers of classes, the rows of those that both have.

    Args:
        path: a .safetensors file (whole model or encoder alone), or a segmenter folder.
        class_names: of the model that receives.

    Returns:
        how many tensors were taken, in whole or in part.

    Raises:
        ConfigError: unreadable, or nothing in it fits this model's encoder.
    """
    source_names: Sequence[str] = ()
    if path.is_dir() and is_segmenter(path):
        description, tensors = read_folder(path)
        source_names = [c["name"] for c in description["classes"]]
    else:
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ConfigError(
                f"hp.pretrained_weights={path}: not a safetensors file or segmenter folder that can be read ({error})."
            ) from None
    return copy_matching(model, tensors, class_names, source_names)


def copy_matching(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    class_names: Sequence[str],
    source_names: Sequence[str] = (),
) -> int:
    """The copying itself; names may lack the prefix of the encoder or of the net.

    Args:
        source_names: the classes of the source; without them, layers of classes are copied row by row as they are.

    Raises:
        ConfigError: no tensor of the encoder fits.
    """
    own, by_class = model.state_dict(), _names_by_class(model)
    taken, encoder_taken = 0, False
    with torch.no_grad():
        for name, tensor in tensors.items():
            target = next((own_name for p in _PREFIXES if (own_name := p + name) in own), None)
            if target is None:
                continue
            if target in by_class and source_names:
                taken += _copy_rows(own[target], tensor, class_names, source_names)
            elif own[target].shape == tensor.shape:
                own[target].copy_(tensor)
                taken += 1
                encoder_taken |= target.startswith(("encoder.", "net.encoder."))
    if not encoder_taken:
        raise ConfigError(
            f"hp.pretrained_weights: none of the {len(tensors)} tensors fits this model's encoder by name and shape. "
            "Choose the template, encoder and width that these weights were trained with."
        )
    return taken


def _names_by_class(model: nn.Module) -> set[str]:
    """Names of the tensors that have a row for each class."""
    layers: Sequence[nn.Module] = getattr(model, "class_layers", ())
    modules = [
        (name, module) for name, module in model.named_modules() if any(module is m for m in layers)
    ]
    return {f"{name}.{kind}" for name, _ in modules for kind in ("weight", "bias")}


def _copy_rows(
    target: Tensor, tensor: Tensor, class_names: Sequence[str], source_names: Sequence[str]
) -> int:
    """A tensor with a row for each class: rows of the classes that both have, and what comes after the classes."""
    rest = tensor[len(source_names) :]
    if target.shape[1:] != tensor.shape[1:] or len(target) - len(class_names) != len(rest):
        return 0
    shared = [name for name in class_names if name in source_names]
    for name in shared:
        target[class_names.index(name)] = tensor[source_names.index(name)]
    target[len(class_names) :] = rest
    return 1 if shared or len(rest) else 0
