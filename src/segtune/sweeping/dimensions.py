"""One dimension of a sweep's search space, and its value in a composed config."""

from dataclasses import dataclass
from typing import Any

from segtune.config.compose import Composed
from segtune.config.keys import GROUPS
from segtune.config.renamed import current_key, former_keys
from segtune.sweeping.engine.dimensions import Dimension


@dataclass(frozen=True)
class SweepDimension(Dimension):
    """One searched key: `hp.width`, a group, or a setting such as `augment.crop_start`.

    Attributes:
        template: the only template to which the dimension applies; None for all templates. A
            template's own range is recorded as `hp.width@template`.
    """

    template: str | None = None

    def describe(self) -> str:
        """Return the key with its values and its template, as a user types them."""
        suffix = f" (for {self.template})" if self.template else ""
        return super().describe() + suffix

    def known_params(self) -> list[str]:
        """Return the names under which a study may have recorded the dimension."""
        former = [self.param.replace(self.key, key) for key in former_keys(self.key)]
        return [self.param, *former]


def plain_param(name: str) -> str:
    """Return a parameter's present name, without the number that `Dimension.recordable` adds.

    >>> plain_param("hp.width@swift#2"), plain_param("hp.width")
    ('hp.width@swift', 'hp.width')
    """
    key, at, template = name.partition("#")[0].partition("@")
    return f"{current_key(key)}{at}{template}"


def value_in(composed: Composed, key: str) -> Any:
    """Return the value of a search key in a composed config; for a group, the chosen member."""
    if key == "template":
        return composed.template.name
    if key in GROUPS:
        return composed.choices.get(key)
    value: Any = composed.config.model_dump()
    for name in key.split("."):
        value = value[name]
    return value
