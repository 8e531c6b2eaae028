"""Several runs make, open and remove features in the cache folder at the same time."""

import numpy as np

from segtune.config.compose import compose
from segtune.runtime.cache_store import CacheStore
from segtune.training import feature_cache
from segtune.training.components import prepare
from segtune.training.feature_cache import encoded_views
from tests.conftest import TINY


def test_features_are_opened_under_their_lock(tiny_run, tmp_path, monkeypatch):
    """Another run that needs the space cannot remove them while they are opened."""
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    words = [
        f"hp.pretrained_weights='{tiny_run.segmenter}'",
        "tuning=head",
        "trainer.class_offsets=false",
    ]
    components = prepare(compose([*TINY, *words]).config, lambda _: None)
    before = encoded_views(components, lambda _: None)
    original = np.load

    def load(path, **options):
        store = CacheStore(tmp_path / "cache" / "features", 0.0)
        store.open(f"other {path.name}", lambda folder: None, lambda folder: None)
        return original(path, **options)

    monkeypatch.setattr(feature_cache.np, "load", load)
    encoded = []
    again = encoded_views(components, encoded.append)
    np.testing.assert_array_equal(again[0].masks, before[0].masks)
    assert len(encoded) == 1  # the val features, removed while the train features were opened
