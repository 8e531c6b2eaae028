"""Weights to start from: timm's, a safetensors file, or the folder of a segmenter."""

from collections.abc import Collection, Iterator, Mapping, Sequence
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

_PREFIXES = ("", "net.", "encoder.", "net.encoder.", "net.encoder.model.", "net.module.")
_MIN_SHARE = 0.8  # of an encoder's tensors: a table of positions may have another size
_ENCODER_PREFIXES = ("encoder.", "net.encoder.", "net.module.")  # the last: a plugin's network


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Use the model hub while the block runs, or only its cache if the hub does not answer.

    Without this the hub's client retries for a minute before it reports a missing network.
    """
    hub = huggingface_hub.constants
    was_offline = hub.HF_HUB_OFFLINE
    try:
        if not was_offline:
            get_session().head(hub.ENDPOINT, timeout=5)
    except Exception:  # no name, no route, no answer, a proxy that refuses: any of its own kind
        hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = was_offline


def copy_weights(model: nn.Module, path: Path, class_names: Sequence[str]) -> int:
    """Copy every tensor of a file or folder that has the name and shape of one of the model.

    Of the layers of classes, only the rows of the classes that both have are copied.

    Args:
        path: a .safetensors file (whole model or encoder alone), or a segmenter folder.
        class_names: of the receiving model.

    Returns:
        the number of tensors that were copied, in whole or in part.

    Raises:
        ConfigError: the file cannot be read, or no tensor fits the model's encoder.
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
                f"hp.pretrained_weights={path}: not a safetensors file or segmenter folder that "
                f"can be read ({error})."
            ) from None
    return copy_matching(model, tensors, class_names, source_names)


def copy_matching(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    class_names: Sequence[str],
    source_names: Sequence[str] = (),
) -> int:
    """Copy tensors into a model as `copy_weights` does; their names may lack a prefix.

    Args:
        source_names: the classes of the source; without them, layers of classes are copied whole.

    Raises:
        ConfigError: no tensor fits the model's encoder, or they are another architecture's.
    """
    state, class_tensors = model.state_dict(), _class_tensors(model)
    copied, in_encoder = 0, set[str]()
    with torch.no_grad():
        for name, tensor in tensors.items():
            target = next((p + name for p in _PREFIXES if p + name in state), None)
            if target is None:
                continue
            if target in class_tensors and source_names:
                copied += _copy_rows(state[target], tensor, class_names, source_names)
            elif state[target].shape == tensor.shape:
                state[target].copy_(tensor)
                copied += 1
                if target.startswith(_ENCODER_PREFIXES):
                    in_encoder.add(target)
    _check_encoder(state, tensors, in_encoder)
    return copied


def _check_encoder(
    state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], copied: Collection[str]
) -> None:
    """Check that weights are those of a model's encoder, and not of a relative of it.

    Raises:
        ConfigError: no tensor was copied into the encoder, or a part of it alone; or the weights
            are those of a deeper one.
    """
    own = {_in_encoder(name): name for name in state if _in_encoder(name)}
    wanted = [name for name in own.values() if not name.endswith("num_batches_tracked")]
    filled = [name for name in wanted if name in copied]
    modules = {name.partition(".")[0] for name in own}
    unused = [n for n in tensors if _bare(n) not in own and _bare(n).partition(".")[0] in modules]
    if copied and wanted and len(filled) < _MIN_SHARE * len(wanted):
        lacking = next(name for name in wanted if name not in copied)
        fault = f"only {len(filled)} of the {len(wanted)} tensors of this model's encoder are in "
        fault += f"the weights with their shape; the first that is not is '{lacking}'"
    elif copied and len(unused) > (1 - _MIN_SHARE) * len(filled):
        fault = f"the weights hold {len(unused)} more tensors than this model's encoder, as "
        fault += f"'{unused[0]}'"
    else:
        fault = ""
    if fault:
        raise ConfigError(
            f"hp.pretrained_weights: {fault}. They belong to another architecture. Choose the "
            "template, encoder and width that they were trained with."
        )
    if not copied:
        raise ConfigError(
            f"hp.pretrained_weights: none of the {len(tensors)} tensors fits this model's encoder "
            "by name and shape. Choose the template, encoder and width that these weights were "
            "trained with."
        )


def _bare(name: str) -> str:
    """A tensor's name inside of the encoder, for weights of a whole model, too."""
    prefixes = sorted(_PREFIXES, key=len, reverse=True)
    return next(name.removeprefix(p) for p in prefixes if name.startswith(p))


def _in_encoder(name: str) -> str:
    """The bare name of a tensor of the encoder; empty for other tensors, and in plugins' nets."""
    return _bare(name) if name.startswith(("encoder.", "net.encoder.")) else ""


def _class_tensors(model: nn.Module) -> set[str]:
    """Names of the tensors that have one row per class."""
    layers = set(getattr(model, "class_layers", ()))  # modules are equal only to themselves
    names = [name for name, module in model.named_modules() if module in layers]
    return {f"{n}.weight" for n in names} | {f"{n}.bias" for n in names}


def _copy_rows(
    target: Tensor, tensor: Tensor, class_names: Sequence[str], source_names: Sequence[str]
) -> int:
    """Copy the rows of the classes that both have, and the rows after the classes.

    Returns:
        1 if any row was copied, else 0.
    """
    after_classes = tensor[len(source_names) :]
    if target.shape[1:] != tensor.shape[1:]:
        return 0
    if len(target) - len(class_names) != len(after_classes):
        return 0
    shared = [name for name in class_names if name in source_names]
    for name in shared:
        target[class_names.index(name)] = tensor[source_names.index(name)]
    target[len(class_names) :] = after_classes
    return 1 if shared or len(after_classes) else 0
