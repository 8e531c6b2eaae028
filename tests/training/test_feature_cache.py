"""Several runs make, open and remove features in the cache folder at the same time."""

import numpy as np
from filelock import FileLock

from segtune.config.compose import compose
from segtune.training import feature_cache
from segtune.training.components import prepare
from segtune.training.feature_cache import _make_room, encoded_views
from tests.conftest import TINY


def test_features_that_another_process_opens_or_makes_stay(tmp_path):
    opened, made, kept = (tmp_path / name for name in ("opened", "made.unfinished", "kept"))
    for folder in (opened, made, kept):
        folder.mkdir()
        (folder / "0.npy").write_bytes(bytes(1000))
    with FileLock(tmp_path / "opened.lock"), FileLock(tmp_path / "made.lock"):
        _make_room(kept, 0.0)
        assert opened.is_dir() and made.is_dir()
    _make_room(kept, 0.0)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["kept"]


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
        _make_room(tmp_path / "cache" / "features" / "other", 0.0)
        return original(path, **options)

    (tmp_path / "cache" / "features" / "other").mkdir()
    monkeypatch.setattr(feature_cache.np, "load", load)
    encoded = []
    again = encoded_views(components, encoded.append)
    np.testing.assert_array_equal(again[0].masks, before[0].masks)
    assert len(encoded) == 1  # the val features, removed while the train features were opened
