"""A template for each architecture of a plugin, so that `template=NAME` needs no file."""

from typing import Any

from segtune.config.part_options import hyperparameters
from segtune.plugins.registry import Part, parts

_COMMON: dict[str, dict[str, Any]] = {
    "image_size": {
        "default": [512],
        "min": 32,
        "max": 2048,
        "description": "one value: the shorter side; two: exact width and height",
    },
    "batch_size": {"default": 8, "min": 1, "max": 64, "step": 1, "search": {"choices": [4, 8, 16]}},
    "num_epochs": {
        "default": 40,
        "min": 1,
        "max": 1000,
        "step": 1,
        "search": {"min": 10, "max": 100},
    },
    "per_item_lrate": {
        "default": 5.0e-5,
        "min": 0.0,
        "search": {"min": 1.0e-6, "max": 1.0e-3, "log": True},
        "description": "the learning rate is batch_size * per_item_lrate",
    },
}
_WEIGHTS = {
    "open": True,
    "description": "also a safetensors file or a registered segmenter (models:/…)",
}


def plugin_templates() -> dict[str, dict[str, Any]]:
    """Return name -> content of a template file, for the architectures of all plugins."""
    found = {n: part for n, part in parts("architecture").items() if part.plugin is not None}
    return {name: _template(part) for name, part in found.items()}


def _template(part: Part) -> dict[str, Any]:
    own = hyperparameters(part)
    choices = ["none", "imagenet"] if part.declares("pretrained") else ["none"]
    weights = {"default": "none", "choices": choices, **_WEIGHTS}
    text = (part.load().__doc__ or part.name).strip().splitlines()[0]
    return {
        "name": part.name,
        "title": text,
        "model": {"architecture": part.name, **{name: f"${{hp.{name}}}" for name in own}},
        "hyperparameters": {**_COMMON, "pretrained_weights": weights, **own},
    }
