"""The objects of a run stay as they were built."""

from dataclasses import replace

import torch

from segtune.config.compose import compose
from segtune.data.batches.decoded import Decoded
from segtune.training.components import prepare
from segtune.training.fit import fit
from tests.conftest import TINY


def test_training_changes_no_weight_of_the_initial_model(tmp_path, monkeypatch):
    config = compose([*TINY, "hp.num_epochs=1", f"tracking.root='{tmp_path}'"]).config
    components = prepare(config, lambda _: None)
    before = {name: value.clone() for name, value in components.model.state_dict().items()}
    monkeypatch.setattr("segtune.training.fit.prepare", lambda *_: components)
    assert fit(config).state == "finished"
    for name, value in components.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_masks_are_counted_once_and_views_follow_the_config(tmp_path, monkeypatch):
    words = [*TINY, "augment=growing_crops", "augment.crop_size=64", "augment.crop_start=32"]
    words += ["sampling.rare_crops=0.5", f"tracking.root='{tmp_path}'"]
    components = prepare(compose(words).config, lambda _: None)
    counted = []
    pixel_counts = Decoded.pixel_counts
    monkeypatch.setattr(
        Decoded, "pixel_counts", lambda *args: counted.append(args) or pixel_counts(*args)
    )
    for _ in range(3):
        assert components.batch_shape == (3, 3, 64, 64)
        assert components.augment.size(0) == (32, 32)
    assert len(counted) == 1
    hp = {**components.config.hp, "num_epochs": 9}
    longer = replace(components, config=components.config.model_copy(update={"hp": hp}))
    assert (components.augment.num_epochs, longer.augment.num_epochs) == (2, 9)
