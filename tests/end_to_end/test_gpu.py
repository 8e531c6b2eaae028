"""On a CUDA device batches arrive unchanged, and steps do not wait for the GPU."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch

import segtune
from segtune.config.compose import compose
from segtune.data.batches.datamodule import LoaderOptions, SegmentationData
from segtune.data.batches.prefetch import Prefetched
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.optim.optimizer import build_optimizer
from segtune.training.components import prepare
from tests.conftest import SCENES, TINY

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
GPU = torch.device("cuda")
ON_GPU = [
    "trainer=gpu",
    "trainer.workers=2",
    "trainer.limit_train_batches=null",
    "trainer.precision=bf16",
]
EOMT = [
    *SCENES,
    "template=eomt",
    "hp.encoder=test_vit",
    "hp.pretrained_weights=none",
    "hp.image_size=[64]",
]


def test_batches_arrive_on_the_gpu_as_the_loader_made_them():
    components = prepare(compose(TINY).config, lambda _: None)
    data = SegmentationData(components.train, components.val, components.augment, LoaderOptions(2))
    loader = data.train_dataloader()
    loader.pin_memory = True
    expected = list(loader)
    prefetched = Prefetched(loader, GPU)
    assert len(prefetched) == len(expected) == 3 and prefetched.sampler is loader.sampler
    for prefetched_batch, batch in zip(prefetched, expected, strict=True):
        assert {v.device.type for v in prefetched_batch.values()} == {"cuda"}
        assert (
            prefetched_batch["image"].stride() == batch["image"].stride()
        )  # channels last, as they were made
        for name in ("image", "mask"):
            torch.testing.assert_close(prefetched_batch[name].cpu(), batch[name])


def test_a_batch_that_is_held_while_others_arrive_keeps_its_bytes():
    images = [
        {"image": torch.full((64, 3, 512, 512), n, dtype=torch.uint8).pin_memory()}
        for n in range(8)
    ]
    loader = torch.utils.data.DataLoader(images, batch_size=None)
    for before, after in pairwise(Prefetched(loader, GPU)):
        torch.cuda._sleep(10_000_000)  # cycles: the GPU is busy while the next batches are copied
        assert int((after["image"].long() - before["image"].long()).unique().item()) == 1


@pytest.mark.parametrize("template", [TINY, EOMT])
def test_a_step_waits_for_the_gpu_as_often_as_documented(template):
    """Never with swift; with eomt once, to match queries."""
    config = compose([*template, "augment.crop_size=64", "augment.crop_start=64", *ON_GPU]).config
    components = prepare(config, lambda _: None)
    data = SegmentationData(components.train, components.val, components.augment, LoaderOptions(2))
    batch = {k: v.to(GPU) for k, v in next(iter(data.train_dataloader())).items()}
    model = components.model.to(GPU).train()
    loss = SegmentationLoss(config.loss, components.class_shares).to(GPU)
    optimizer = build_optimizer(config.optimizer, model, 1e-3)

    def step():
        with torch.autocast("cuda", torch.bfloat16):
            value = components.task.loss_of(model, loss, batch)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # state of the optimiser
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(w.message) for w in heard if "called a synchronizing" in str(w.message)]
    assert len(waits) == (0 if template is TINY else 1), waits


@pytest.mark.parametrize("more", [[], ["trainer.compile=true"], ["trainer.deterministic=true"]])
def test_training_on_a_gpu_learns_and_its_segmenter_loads(tmp_path, more):
    root = [f"tracking.root={tmp_path / 'runs'}"]
    done = segtune.train(*TINY, *ON_GPU, *more, *root, "hp.num_epochs=12", say=lambda _: None)
    assert done.state == "finished" and done.miou > 0.1
    assert segtune.load(done.segmenter).segment(np.zeros((64, 96, 3), np.uint8)).mask.shape == (
        64,
        96,
    )


def test_eomt_trains_on_a_gpu(tmp_path):
    root = [f"tracking.root={tmp_path / 'runs'}"]
    for more in ([], ["trainer.compile=true"]):
        done = segtune.train(
            *EOMT, *ON_GPU, *more, *root, "hp.num_epochs=2", "hp.batch_size=3", say=lambda _: None
        )
        assert done.state == "finished"
