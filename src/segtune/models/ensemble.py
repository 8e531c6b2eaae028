"""An ensemble: several networks of one architecture whose logits are averaged."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from segtune.models.build import build
from segtune.models.networks.network import Network


class Ensemble(Network):
    """The mean of the logits of several networks.

    The softmax of mean logits is the normalised geometric mean of the networks' probabilities.

    Args:
        members: networks with equal preprocessing, whose logits have one size.
    """

    classifier = None  # no single convolution adds a constant to a class's logits

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.preprocessing = members[0].preprocessing

    @property
    def networks(self) -> list[Network]:
        """The members with their type."""
        return [member for member in self.members if isinstance(member, Network)]

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]  # a part of a member, not a second one
        """The first member's encoder."""
        return self.networks[0].encoder

    @property
    def class_layers(self) -> list[nn.Module]:
        """The layers of classes of all members."""
        return list(chain.from_iterable(network.class_layers for network in self.networks))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


def build_ensemble(num_classes: int, member: Mapping[str, Any], count: int) -> Ensemble:
    """Build an ensemble of untrained networks.

    Args:
        member: the `model` section of each network, see `build`.
        count: number of networks.

    Raises:
        ConfigError: a member cannot be built.
    """
    return Ensemble([build(member, num_classes).net for _ in range(count)])
