"""The query-based template through all of fine-tuning, on the built-in scenes."""

import pytest

import segtune
from segtune.data.street.scenes import Scene


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_queries_learn_the_built_in_scenes(tmp_path):
    done = segtune.train(
        "dataset=street",
        "template=eomt",
        "hp.pretrained_weights=none",
        "hp.encoder=test_vit",
        "hp.num_queries=20",
        "hp.num_blocks=3",
        "loss.points=1024",
        "hp.image_size=[192]",
        "hp.batch_size=8",
        "hp.num_epochs=24",
        "hp.per_item_lrate=3e-4",
        "optimizer=muon",
        "trainer=cpu",
        "trainer.ema_decay=0.98",
        "trainer.val_every=12",
        "tracking.overlays=0",
        f"tracking.root='{tmp_path}'",
        say=lambda _: None,
    )
    assert done.miou > 0.6
    segmentation = segtune.load(done.segmenter).segment(Scene(77).render(192, 256).image)
    assert {"road", "sky"} <= {r.concept for r in segmentation.regions}
