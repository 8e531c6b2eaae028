"""Checks of registered parts: the contract that segtune's own parts are tested with.

    from segtune.testing import check_architecture
    from mylab import tiny_net

    def test_tiny_net():
        check_architecture(tiny_net, width=8)

Each check raises AssertionError with the fact that does not hold, or ConfigError for a wrong form.
"""

from segtune.testing.architectures import check_architecture
from segtune.testing.augmentations import check_augmentation
from segtune.testing.losses import check_loss
from segtune.testing.metrics import check_metric
from segtune.testing.readers import check_reader
from segtune.testing.samplers import check_sampler

__all__ = [
    "check_architecture",
    "check_augmentation",
    "check_loss",
    "check_metric",
    "check_reader",
    "check_sampler",
]
