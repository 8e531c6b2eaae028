"""A labeler uses the commands of a segmenter, and labels held-out scenes well."""

import json

import numpy as np
import pytest
from PIL import Image

import segtune
from segtune.config.compose import compose
from segtune.data.batches.finer import number_regions
from segtune.data.reading.images import read_mask
from segtune.data.sources import open_source
from segtune.errors import ConfigError
from segtune.inference.labeler import RegionLabeler
from segtune.inference.regions.regions import find_regions
from segtune.inference.segmenter import Segmenter
from tests.conftest import SCENES

QUIET = {"say": lambda _: None}
LABELER = [
    *SCENES,
    "kind=labeler",
    "labeler.concept=building",
    "trainer=debug",
    "hp.encoder=resnet10t",
    "hp.width=16",
    "hp.pretrained_weights=none",
    "hp.image_size=[64]",
    "hp.batch_size=3",
    "hp.num_epochs=2",
]


@pytest.mark.slow
@pytest.mark.ci
def test_the_same_commands_train_sweep_compare_evaluate_and_promote_it(tmp_path):
    root = f"tracking.root='{tmp_path}'"
    run = segtune.train(*LABELER, root, **QUIET)
    assert run.kind == "labeler" and set(run.metrics) >= {
        "val/miou",
        "val/region_accuracy",
        "val/ece",
    }
    assert "val/boundary_iou" not in run.metrics
    again = segtune.train(*LABELER, root, **QUIET)
    assert again.metrics == run.metrics
    measured = segtune.evaluate(run.run_id, *LABELER[:2], root, **QUIET)
    assert (
        measured.scores.miou == pytest.approx(run.miou) and "region accuracy" in measured.lines()[0]
    )
    fixed = json.dumps([word for word in LABELER if not word.startswith("hp.width=")])
    (tmp_path / "finer.yaml").write_text(
        f"n_trials: 2\nworkers: 1\nsampler: random\noverrides: {fixed}\n"
        "search: {hp.width: [16, 32]}\n"
    )
    swept = segtune.sweep(str(tmp_path / "finer.yaml"), root, **QUIET)
    assert swept.counts.finished == 2
    report = segtune.compare(run.run_id, again.run_id, root=str(tmp_path))
    assert "house" in report.html.read_text()
    gate = ["gate=val", "gate.max_ece=null", "gate.min_gain=null", "gate.max_class_drop=null"]
    assert segtune.promote(run.run_id, "houses", *gate, root=str(tmp_path)).moved
    loaded = segtune.load("models:/houses@champion", root=str(tmp_path))
    assert isinstance(loaded, RegionLabeler) and loaded.concept == "building"
    with pytest.raises(ConfigError, match="is a labeler, which finds no regions itself"):
        segtune.predict(
            "models:/houses@champion", "street:test", tmp_path / "out", root=str(tmp_path), **QUIET
        )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["kind=labeler"], "labeler.concept has no value"),
        (
            ["kind=labeler", "labeler.concept=car", "template=unet"],
            "take a template for it: mask_pool",
        ),
        (["template=mask_pool"], "set kind=labeler"),
        (["labeler.concept=car"], "labeler.concept belongs to kind=labeler"),
        (["kind=labeller", "labeler.concept=car"], "did you mean 'labeler'"),
    ],
)
def test_kind_template_and_concept_must_fit(overrides, words):
    with pytest.raises(ConfigError, match=words):
        compose(overrides)


def test_a_concept_without_finer_labels_names_those_that_have_some(tmp_path):
    with pytest.raises(ConfigError, match="with finer labels: building, road, car, person"):
        segtune.train(*LABELER, "labeler.concept=sky", f"tracking.root='{tmp_path}'", **QUIET)


HELD_OUT = [
    "dataset=street",
    "kind=labeler",
    "labeler.concept=car",
    "hp.image_size=[192]",
    "hp.pretrained_weights=none",
    "hp.encoder=resnet10t",
    "hp.num_epochs=12",
    "trainer=cpu",
    "trainer.threads=1",
    "trainer.val_every=4",
    "tracking.overlays=0",
]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_finer_labels_of_cars_on_held_out_scenes(tmp_path):
    """Given true regions, and end to end: what a segmenter saw, parted and labelled."""
    root = f"tracking.root='{tmp_path}'"
    run = segtune.train(*HELD_OUT, root, **QUIET)
    evaluation = segtune.evaluate(run.run_id, "dataset=street", root, split="test", **QUIET)
    print(
        f"given true regions: {evaluation.scores.pixel_accuracy:.3f} of {evaluation.matrices.sum()}"
    )
    assert evaluation.matrices.sum() > 150
    assert evaluation.scores.pixel_accuracy >= 0.9  # of regions: they are what the matrix counts
    quick = ["template=swift", "hp=quick", "hp.num_epochs=16", "trainer=cpu"]
    seen = segtune.train("dataset=street", *quick, root, **QUIET)
    right, pixels, named, regions = end_to_end(
        segtune.load(seen.uri, root=str(tmp_path)), segtune.load(run.uri, root=str(tmp_path))
    )
    print(
        f"end to end: {right / pixels:.3f} of the pixels, "
        f"{named / regions:.3f} of {regions} regions of 100 pixels"
    )
    assert right / pixels >= 0.8 and named / regions >= 0.8


def end_to_end(segmenter: Segmenter, labeler: RegionLabeler) -> tuple[int, int, int, int]:
    """Count pixels with the true finer label, all pixels, right regions and all regions.

    Regions have at least 100 pixels. A region is right if its most frequent
    prediction, where no label counts as one, is its true label.
    """
    source = open_source(compose(["dataset=street"]).config.dataset)
    concept = source.classes.names.index(labeler.concept)
    right = pixels = named = regions = 0
    for pair in source.pairs("test"):
        mask = read_mask(pair.mask)
        finer = np.where(
            mask == concept, read_mask(source.root / "finer" / "test" / pair.mask.name), 255
        )
        segmentation = segmenter.segment(pair.image)
        painted = np.full(mask.shape, 255, np.uint8)
        seen = find_regions(
            segmentation.mask, segmentation.confidence, segmentation.classes, "components"
        )
        for region in labeler.label(segmentation, seen, divide=True):
            if region.finer:
                painted[region.mask()] = region.finer[0].id
        right += np.count_nonzero((painted == finer) & (finer != 255))
        pixels += np.count_nonzero(finer != 255)
        truth = number_regions(finer.astype(np.uint8), 100)
        for number, label in enumerate(truth.labels, 1):
            named += np.bincount(painted[truth.numbers == number], minlength=256).argmax() == label
            regions += 1
    return right, pixels, int(named), regions


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_labeler_trained_on_shuffled_labels_predicts_only_the_most_frequent(tmp_path):
    source = open_source(compose(["dataset=street"]).config.dataset)
    wrong, rng = tmp_path / "wrong", np.random.default_rng(0)
    for split in ("train", "val", "test"):
        (wrong / split).mkdir(parents=True)
        for path in sorted((source.root / "finer" / split).glob("*.png")):
            finer = np.asarray(Image.open(path))
            if (
                split == "train"
            ):  # each car of a scene gets a label by lot, as often as the true ones are
                mask = np.asarray(Image.open(source.root / "masks" / split / path.name))
                lot = rng.choice(3, 256, p=[0.6, 0.2, 0.2])
                finer = np.where((mask == 6) & (finer != 255), lot[finer], finer).astype(np.uint8)
            Image.fromarray(finer).save(wrong / split / path.name)
    root = f"tracking.root='{tmp_path}'"
    overrides = [*HELD_OUT, f"dataset.finer='{wrong}/{{split}}'", "hp.num_epochs=4"]
    run = segtune.train(*overrides, root, **QUIET)
    evaluation = segtune.evaluate(run.run_id, "dataset=street", root, split="test", **QUIET)
    commonest = evaluation.matrices.sum(0).sum(1).max() / evaluation.matrices.sum()
    print(
        f"trained on shuffled labels: {evaluation.scores.pixel_accuracy:.3f}, "
        f"the most frequent label: {commonest:.3f}"
    )
    assert evaluation.scores.pixel_accuracy <= commonest + 0.03
