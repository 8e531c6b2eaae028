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
    except Exception:  # whatever its HTTP client raises: no name, no route, no answer, a proxy's refusal
        hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def take_over(model: nn.Module, path: Path, class_names: Sequence[str]) -> int:
    """Copies every tensor that fits by name and shape; of a segmenter's classifier, the rows of classes that agree.

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
    return copy_fitting(model, tensors, class_names, source_names)


def copy_fitting(
    model: nn.Module, tensors: Mapping[str, Tensor], class_names: Sequence[str], source_names: Sequence[str] = ()
) -> int:
    """The copying itself; names may lack the prefix `net.`, `net.encoder.` or `net.encoder.model.`.

    Raises:
        ConfigError: no tensor of the encoder fits.
    """
    own = model.state_dict()
    taken, encoder_taken = 0, False
    with torch.no_grad():
        for name, tensor in tensors.items():
            target = next(
                (own[p + name] for p in ("", "net.", "net.encoder.", "net.encoder.model.") if p + name in own), None
            )
            if target is None:
                continue
            is_head = any(part in name for part in ("head.", "segmentation_head."))
            if is_head and source_names:
                taken += _copy_rows(target, tensor, class_names, source_names)
            elif target.shape == tensor.shape:
                target.copy_(tensor)
                taken += 1
                encoder_taken |= not is_head
    if not encoder_taken:
        raise ConfigError(
            f"hp.pretrained_weights: none of the {len(tensors)} tensors fits this model's encoder by name and shape. "
            "Choose the template, encoder and width that these weights were trained with."
        )
    return taken


def _copy_rows(target: Tensor, tensor: Tensor, class_names: Sequence[str], source_names: Sequence[str]) -> int:
    """A classifier's weight or bias, class by class; its other layers where they fit."""
    if len(target) == len(class_names) and len(tensor) == len(source_names) and target.shape[1:] == tensor.shape[1:]:
        rows = [(i, source_names.index(n)) for i, n in enumerate(class_names) if n in source_names]
        for mine, theirs in rows:
            target[mine] = tensor[theirs]
        return 1 if rows else 0
    if target.shape == tensor.shape:
        target.copy_(tensor)
        return 1
    return 0
