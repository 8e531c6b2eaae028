"""Decisions by strips equal decisions of the whole image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from segtune.inference import decisions
from segtune.inference.decisions import class_ids, decide

SIDES = st.integers(1, 40)


def whole(logits, size, grid):
    """Return ids, probabilities, and the distance to the second class."""
    full = F.interpolate(logits, size=grid, mode="bilinear")[..., : size[0], : size[1]]
    first = full.topk(min(2, full.shape[1]), 1).values
    return (
        full.max(1).indices.numpy(),
        full.softmax(1).amax(1).numpy(),
        (first[:, 0] - first[:, -1]).numpy(),
    )


@given(
    st.integers(1, 9),
    SIDES,
    SIDES,
    SIDES,
    SIDES,
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=200)
def test_strips_equal_the_whole_image(classes, h, w, height, width, below, right, seed):
    logits = 8 * torch.randn(2, classes, h, w, generator=torch.Generator().manual_seed(seed))
    if seed % 2:
        logits = logits.contiguous(memory_format=torch.channels_last)
    size, grid, before = (height, width), (height + below, width + right), logits.clone()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decisions, "_STRIP", 1 + seed % 2000)
        found, alone = decide(logits, size, grid), class_ids(logits, grid)
    ids, sure, ahead = whole(logits, size, grid)
    for n, (own, own_sure) in enumerate(found):
        assert (
            own.shape == own_sure.shape == size
            and own.dtype == np.uint8
            and own_sure.dtype == np.float32
        )
        clear = (ahead[n] > 1e-4) | (classes == 1)
        assert np.array_equal(own[clear], ids[n][clear])
        assert np.allclose(own_sure, sure[n], atol=1e-4)
        assert np.array_equal(own, alone[n, :height, :width].numpy())
    assert torch.equal(logits, before)


def test_of_equal_logits_the_first_class_is_taken():
    logits = torch.tensor([1.0, 3.0, 3.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 5)
    ids, sure = decide(logits, (4, 5))[0]
    assert (ids == 1).all() and np.allclose(sure, 1 / (2 + np.exp(-2)))


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_logits_of_any_magnitude_are_decided(scale):
    logits = scale * torch.randn(1, 255, 7, 9, generator=torch.Generator().manual_seed(0))
    ids, sure = decide(logits, (7, 9))[0]
    assert np.array_equal(ids, logits[0].max(0).indices.numpy())
    assert np.allclose(sure, logits[0].softmax(0).amax(0).numpy(), rtol=1e-4)
