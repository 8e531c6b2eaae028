"""A student learns its teacher's soft labels: the term, what it counts, and who may teach."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import segtune
from segtune.classes import ClassTable
from segtune.config.compose import compose
from segtune.data.batches.datamodule import EpochSampler, TrainViews
from segtune.data.batches.sampling import Sampling
from segtune.data.sources import open_source
from segtune.errors import ConfigError, DataError
from segtune.models.losses.distillation import Distillation
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.tasks.segmentation import Segmentation
from segtune.tracking.recorded import recorded_config
from segtune.tracking.runs import get_run
from segtune.tracking.store import open_store
from segtune.training.components import prepare
from segtune.training.teacher import distillation_of, with_teacher
from tests.conftest import TINY

GRID = torch.Generator().manual_seed(0)
TEACHER = torch.randn(2, 3, 4, 6, generator=GRID)
STUDENT = torch.randn(2, 3, 4, 6, generator=GRID)
IMAGE = torch.zeros(2, 3, 16, 24, dtype=torch.uint8)


class Answer(nn.Module):
    """A model that gives the same logits for every image."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, image, stride=1):
        rows = torch.nn.functional.interpolate(self.logits, scale_factor=4 / stride)
        return rows[: len(image)]


def divergence(counted, temperature):
    """Kullback and Leibler's sum in NumPy, pixel by pixel, averaged over the counted ones."""

    def softmax(logits):
        scaled = np.exp(logits.numpy().astype(np.float64) / temperature)
        return scaled / scaled.sum(1, keepdims=True)

    p, q = softmax(TEACHER), softmax(STUDENT)
    return float((p * np.log(p / q)).sum(1)[counted.numpy()].mean()) * temperature**2


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_term_is_the_divergence_of_softened_labels_over_counted_pixels(temperature):
    term = Distillation(Answer(TEACHER), [0, 1, 2], 3.0, temperature)
    counted = torch.rand(2, 4, 6, generator=GRID) < 0.5
    value = term(STUDENT, IMAGE, counted)
    assert float(value) == pytest.approx(3.0 * divergence(counted, temperature), rel=1e-5)
    assert float(term(TEACHER, IMAGE, counted)) == pytest.approx(0.0, abs=1e-6)
    assert float(term(STUDENT, IMAGE, torch.zeros_like(counted))) == 0.0


def test_classes_are_compared_by_name_and_not_by_position():
    order = [2, 0, 1]
    term = Distillation(Answer(TEACHER), order, 1.0, 2.0)
    counted = torch.ones(2, 4, 6, dtype=torch.bool)
    assert float(term(TEACHER[:, order], IMAGE, counted)) == pytest.approx(0.0, abs=1e-6)


def loss_of(**loss):
    config = compose(["dataset=street", "loss=ce"]).config.loss.model_copy(update=loss)
    return SegmentationLoss(config, [0.3] * 3, Distillation(Answer(TEACHER), [0, 1, 2], 1.0, 2.0))


@pytest.mark.parametrize("stride", [1, 4])
def test_ignored_pixels_teach_nothing_and_unlabelled_ones_do(stride):
    mask = torch.full((2, 16, 24), 255, dtype=torch.uint8)
    model, loss = Answer(STUDENT), loss_of(stride=stride)
    value = Segmentation().loss_of(model, loss, {"image": IMAGE, "mask": mask})
    assert value.item() == 0.0
    taught = torch.zeros(2, 16, 24, dtype=torch.bool)
    taught[0] = True  # the first image has no label, the second is ignored
    value = Segmentation().loss_of(model, loss, {"image": IMAGE, "mask": mask, "taught": taught})
    assert value.item() == pytest.approx(divergence(taught[:, ::4, ::4], 2.0), rel=1e-4)


def test_an_epoch_shows_all_labelled_images_and_at_most_as_many_others():
    sampling = Sampling(compose(["dataset=street"]).config.sampling, np.ones((5, 2), np.int64))
    few, many = (EpochSampler(sampling, 0, unlabelled=n) for n in (3, 100))
    assert sorted(index for _, index, _ in few) == list(range(8)) and len(few) == 8
    shown = [index for _, index, _ in many]
    assert sorted(shown)[:5] == list(range(5)) and len(shown) == len(many) == 10
    many.set_epoch(1)
    assert sorted(shown) != sorted(index for _, index, _ in many)


def words_with(teacher, *words):
    return [*TINY, "template=swift", "trainer=debug", f"loss.teacher='{teacher}'", *words]


def test_a_run_learns_from_its_teacher_on_images_without_masks(tiny_run, tmp_path):
    images = tmp_path / "more"
    images.mkdir()
    for number in range(2):
        pixels = np.full((48, 64, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    words = words_with(tiny_run.segmenter, f"dataset.unlabelled='{images}'")
    of_val = open_source(compose(words).config.dataset).images("val")[0]
    shutil.copy(of_val, images / f"other{of_val.suffix}")  # is left out
    components = prepare(compose(words).config, lambda _: None)
    assert components.epoch_images == len(components.train) + 2
    views = TrainViews(components.train, components.augment, 0, components.unlabelled)
    batch = views.__getitems__([(0, 0, 0), (0, len(components.train), 0)])
    assert (batch["mask"][1] == 255).all() and batch["taught"][1].any()
    assert torch.equal(batch["taught"][0], batch["mask"][0] != 255)
    done = segtune.train(*words, f"tracking.root='{tmp_path / 'runs'}'", say=lambda _: None)
    store = open_store(compose([f"tracking.root='{tmp_path / 'runs'}'"]).config.tracking)
    recorded = recorded_config(store, done.run_id)
    assert recorded.loss.teacher_hash and recorded.dataset.unlabelled == str(images)
    tags = get_run(store, done.run_id).tags
    assert tags["segtune.teacher"] == recorded.loss.teacher_hash
    other = recorded.loss.model_copy(update={"teacher_hash": "0" * 64})
    with pytest.raises(DataError, match="has changed since the run began"):
        with_teacher(recorded.model_copy(update={"loss": other}), lambda _: None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.unlabelled=photos", "loss.teacher=null"], "only a teacher can label them"),
        (["loss.teacher=nowhere"], "'nowhere' is no segmenter"),
        (["loss=masks"], "masks compares queries"),
        (["tuning=head", "hp.pretrained_weights=x"], "tuning.cached_views=4"),
    ],
)
def test_what_cannot_teach_is_refused_in_one_message(tiny_run, words, message):
    with pytest.raises(ConfigError, match=message):
        with_teacher(compose(words_with(tiny_run.segmenter, *words)).config, lambda _: None)


def test_a_teacher_of_other_classes_is_named_with_the_difference(tiny_run):
    config = compose(words_with(tiny_run.segmenter)).config
    known = segtune.load(tiny_run.segmenter).classes.names
    table = ClassTable.parse([{"name": name} for name in [*known[1:], "moon"]])
    with pytest.raises(ConfigError, match=f"lacks moon and also knows {known[0]}"):
        distillation_of(config, table)
