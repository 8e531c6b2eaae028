"""Merged runs: kept only where they are better, refused where they are not alike."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import segtune
from segtune.api.experiments import open_root
from segtune.config.schema import TuningConfig
from segtune.errors import ConfigError, DataError
from segtune.evaluation import merged_run
from segtune.evaluation.merging import _renew_statistics
from segtune.measure.evidence import Evidence
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import get_run
from tests.conftest import OPEN_GATE, TINY


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_run, store_root):
    """A store with two seeds of one configuration, and a run of another width."""
    root = tmp_path_factory.mktemp("merging") / "store"
    shutil.copytree(store_root, root)
    words = [f"tracking.root='{root}'", "hp.num_epochs=1"]
    other = segtune.train(*TINY, *words, "seed=1", say=lambda _: None)
    wide = segtune.train(*TINY, *words, "hp.width=24", say=lambda _: None)
    return str(root), [tiny_run.run_id, other.run_id], wide.run_id


def merge(root, *names, **options):
    return segtune.merge(*names, root=root, say=lambda _: None, **options)


def test_a_merge_is_kept_only_if_it_beats_the_best_run_on_val(runs, monkeypatch):
    root, ids, _ = runs
    merged = merge(root, *ids)
    best = max(merged.singles, key=lambda single: single.miou)
    assert merged.tried[0].how == "weights"
    assert (merged.kept is not None) == (max(m.miou for m in merged.tried) > best.miou)
    assert all(
        m.cost["params_m"] > 0 and m.how in line
        for m, line in zip([*merged.singles, *merged.tried], merged.lines(), strict=False)
    )
    monkeypatch.setattr(RunWriter, "create", lambda *a, **k: pytest.fail("nothing may be kept"))
    monkeypatch.setattr(merged_run, "_merged", lambda members, *a: members[-1].segmenter)
    worst = merge(root, *ids, how="weights")
    assert worst.kept is None and worst.run_id == "" and "nothing was kept" in worst.lines()[-1]


def test_an_ensemble_is_a_run_that_predicts_evaluates_and_is_promoted(runs, monkeypatch, tmp_path):
    root, ids, _ = runs
    store = open_root(root)
    for run_id in ids:  # so that it is better, whatever two epochs of two seeds give
        RunWriter(store, run_id).metrics({"best/val/miou": 0.0}, 99)
    merged = merge(root, *ids, how="logits")
    run = get_run(store, merged.run_id)
    assert run.tags["segtune.members"].split(",") == ids and run.params["merge"] == "logits"
    assert run.miou == pytest.approx(merged.kept.miou)
    assert merged.kept.cost["params_m"] == pytest.approx(
        2 * merged.singles[0].cost["params_m"], rel=0.01
    )
    evidence = segtune.evaluate(
        f"runs:/{merged.run_id}", f"tracking.root='{root}'", say=lambda _: None
    )
    assert isinstance(evidence, Evidence) and evidence.scores.miou == pytest.approx(run.miou)
    promotion = segtune.promote(merged.run_id, "both", *OPEN_GATE, root=root)
    assert promotion.moved
    assert any(row["run"] == merged.run_id for row in segtune.list_entries("runs", root=root).rows)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (lambda ids, wide: [], "two or more different runs, found none"),
        (lambda ids, wide: [ids[0]], "two or more"),
        (lambda ids, wide: [ids[0], ids[0]], "two or more"),
        (lambda ids, wide: [ids[0], wide], r"model.width \(16 and 24\)"),
    ],
)
def test_runs_that_are_not_alike_are_refused(runs, names, found):
    root, ids, wide = runs
    with pytest.raises(ConfigError, match=found):
        merge(root, *names(ids, wide))


@pytest.mark.parametrize(
    ("tuning", "kept"),
    [({}, False), ({"norms": "frozen"}, True), ({"encoder": "frozen"}, True)],
)
def test_batch_norms_that_were_frozen_keep_their_statistics(tuning, kept):
    net = nn.Sequential()
    net.encoder, net.head = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.BatchNorm2d(4)
    net.forward = lambda images: net.head(net.encoder(images))
    model = nn.Module()
    model.net, model.forward = net, net.forward
    before = net.encoder[1].running_mean.clone()
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    _renew_statistics(model, TuningConfig(**tuning), [images, images])
    assert torch.equal(net.encoder[1].running_mean, before) == kept
    assert net.head.running_mean.abs().sum() > 0 and net.head.momentum == 0.1
    if not kept:
        expected = net.encoder[0](images).mean((0, 2, 3))
        torch.testing.assert_close(net.encoder[1].running_mean, expected)


def test_images_that_have_changed_since_the_runs_are_refused():
    info = {"dataset": {"val": "a" * 64}}
    member = SimpleNamespace(segmenter=SimpleNamespace(info=info), run=SimpleNamespace(id="r"))
    merged_run._refuse_changed(member, "val", SimpleNamespace(fingerprint="a" * 64))
    with pytest.raises(DataError, match="val images or masks have changed since run r"):
        merged_run._refuse_changed(member, "val", SimpleNamespace(fingerprint="b" * 64))
