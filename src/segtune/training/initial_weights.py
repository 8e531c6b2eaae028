"""The weights that a run starts from: of the hub, of a package, of a file or of a segmenter."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from segtune.config.schema import RunConfig
from segtune.data.source.files import cache_dir
from segtune.errors import ConfigError
from segtune.models.bundled import bundled_weights, has_bundle
from segtune.models.pretrained import copy_matching, copy_weights
from segtune.runtime.log import Log, silent
from segtune.tasks.task import Task
from segtune.tracking.registry import locate
from segtune.tracking.store import open_store

WORDS = ("none", "imagenet", "bundled")
"""Values of `hp.pretrained_weights` that are no place."""

_OTHERS = "a segmenter folder, models:/NAME@champion, runs:/ID, imagenet, bundled or none"


def check_weights(config: RunConfig, task: Task) -> None:
    """Check that a run's initial weights can be had; weights of the hub are downloaded.

    Raises:
        ConfigError: they cannot.
    """
    if _name(config) in ("imagenet", "bundled"):
        _encoder_pretrained(config, task, ["a", "b"], silent)
    else:
        find_weights(config, task)


def find_weights(config: RunConfig, task: Task) -> Path | None:
    """Locate the file or folder of the initial weights.

    Returns:
        None for random weights and for those of the hub or a package.

    Raises:
        ConfigError: the weights do not exist. This comes before any data is downloaded or read.
    """
    name, dataset = _name(config), config.dataset
    if name in WORDS:
        root = Path(dataset.root).expanduser() if dataset.root else None
        is_local = dataset.source == "folder" and root is not None and root.exists()
        if name != "none" and dataset.source != "street" and not is_local:
            check_weights(config, task)
        return None
    if name.startswith(("models:/", "runs:/")):
        return locate(name, open_store(config.tracking)).folder
    path = Path(name).expanduser()
    if not path.exists():
        raise ConfigError(
            f"hp.pretrained_weights={name}: no such file or folder. Give a safetensors file, "
            f"{_OTHERS}."
        )
    return locate(str(path)).folder if path.is_dir() else path


def initial_model(
    config: RunConfig, task: Task, class_names: Sequence[str], weights: Path | None, say: Log
) -> nn.Module:
    """Build the model of a run with its initial weights.

    Args:
        weights: of `find_weights`.

    Raises:
        ConfigError: the weights cannot be loaded, or do not fit the model.
    """
    name = _name(config)
    if name in ("imagenet", "bundled"):
        return _encoder_pretrained(config, task, class_names, say)
    model = task.build(config.template["model"], len(class_names))
    if weights is not None:
        say(f"took {copy_weights(model, weights, class_names)} tensors from {name}")
    return model


def _encoder_pretrained(
    config: RunConfig, task: Task, class_names: Sequence[str], say: Log
) -> nn.Module:
    """A model whose encoder has ImageNet weights: of the hub or, without it, of a package."""
    template, num_classes = config.template["model"], len(class_names)
    encoder = str(template.get("encoder") or template.get("architecture"))
    if _name(config) == "imagenet":
        try:
            return task.build(template, num_classes, pretrained=True)
        except ConfigError:
            if not has_bundle(encoder):
                raise
        say(f"the model hub does not answer: {encoder} starts from the weights of its package")
    tensors = bundled_weights(encoder, cache_dir() / "weights")
    model = task.build(template, num_classes)
    copy_matching(model, tensors, class_names)
    return model


def _name(config: RunConfig) -> str:
    return str(config.hp.get("pretrained_weights", "none"))
