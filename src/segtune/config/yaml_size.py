"""Refuse small YAML files whose aliases stand for more values than a machine can hold.

OmegaConf copies what an alias names, each time.
"""

from itertools import chain
from pathlib import Path

import yaml

from segtune.errors import ConfigError

_MOST_VALUES = 1_000_000


def check_yaml_size(path: Path) -> None:
    """Count the values of a YAML file with its aliases written out.

    Raises:
        ConfigError: there are more than a million, or a value holds itself.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    if b"&" not in data or b"*" not in data:
        return
    try:
        node = yaml.compose(data, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return  # the reader says what is wrong
    count = _count(node, {})
    if count > _MOST_VALUES:
        raise ConfigError(
            f"{path}: its aliases (`*NAME`) stand for more than a million values, or for a value "
            "that holds itself. Write the values themselves."
        )


def _count(node: yaml.Node | None, known: dict[int, float]) -> float:
    """The values in a node; infinite if it holds itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")  # while its parts are counted
        parts = list(node.value)
        if isinstance(node, yaml.MappingNode):
            parts = list(chain.from_iterable(node.value))
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]
