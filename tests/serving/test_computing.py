"""The threads that compute: one image with all of them, several side by side."""

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from segtune.inference.options import Options
from segtune.serving import computing
from segtune.serving.computing import ComputeThreads
from segtune.serving.served import ModelSlot
from tests.serving.server import served

PIXELS = np.zeros((4, 4, 3), np.uint8)


class Recorder:
    """A segmenter that notes its threads of torch, and waits until several images are computed."""

    device, engine = torch.device("cpu"), SimpleNamespace(name="auto")

    def __init__(self, side_by_side: int) -> None:
        self.threads: list[int] = []
        self.together = threading.Barrier(side_by_side)

    def segment(self, pixels, tiling, tta):
        self.together.wait(20)
        self.threads.append(torch.get_num_threads())


@pytest.mark.parametrize(
    ("num_images", "side_by_side", "threads"),
    [(1, 1, [4]), (2, 2, [1, 3]), (8, 4, [1] * 8)],
)
def test_images_that_come_together_share_the_threads(
    monkeypatch, num_images, side_by_side, threads
):
    monkeypatch.setattr(computing, "compute_threads", lambda: 4)
    before = torch.get_num_threads()
    segmenter = Recorder(side_by_side)
    model = SimpleNamespace(segmenter=segmenter, workflow=None)
    lanes = ComputeThreads(segmenter)

    async def all_images() -> None:
        with lanes._changed:  # none begins before all wait
            tasks = [
                asyncio.ensure_future(lanes.segment(model, PIXELS, Options()))
                for _ in range(num_images)
            ]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    try:
        asyncio.run(all_images())
    finally:
        lanes.close()
        torch.set_num_threads(before)
    assert sorted(segmenter.threads) == threads


@pytest.mark.parametrize(("device", "engine"), [("cpu", "openvino"), ("cuda", "auto")])
def test_engines_that_share_memory_and_gpus_compute_one_image_at_a_time(
    monkeypatch, device, engine
):
    monkeypatch.setattr(computing, "compute_threads", lambda: 4)
    segmenter = SimpleNamespace(device=torch.device(device), engine=SimpleNamespace(name=engine))
    threads = ComputeThreads(segmenter)
    assert len(threads._lanes) == 1
    threads.close()


def test_masks_that_are_computed_side_by_side_are_those_of_the_segmenter(monkeypatch):
    monkeypatch.setattr(computing, "compute_threads", lambda: 3)
    before, model = torch.get_num_threads(), served()
    images = [np.random.default_rng(n).integers(0, 256, (40, 56, 3), np.uint8) for n in range(12)]
    threads = ComputeThreads(model.segmenter)

    async def all_images():
        return await asyncio.gather(*(threads.segment(model, i, Options()) for i in images))

    try:
        results = asyncio.run(all_images())
    finally:
        threads.close()
        torch.set_num_threads(before)
    for image, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result.segmentation.mask, model.segmenter.segment(image).mask)


def test_an_image_that_nobody_waits_for_leaves_the_queue():
    segmenter = Recorder(2)
    threads = ComputeThreads(segmenter)
    model = SimpleNamespace(segmenter=segmenter, workflow=None)

    async def give_up() -> None:
        with threads._changed:  # no lane takes a task
            waiting = [
                asyncio.ensure_future(threads.segment(model, PIXELS, Options())) for _ in range(3)
            ]
            await asyncio.sleep(0)
            assert len(threads._waiting) == 3
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert not threads._waiting

    try:
        asyncio.run(give_up())
    finally:
        threads.close()


@pytest.mark.parametrize(("tile", "batches"), [(None, [3]), (32, [1, 1, 1])])
def test_images_of_one_size_form_a_batch_on_a_gpu_unless_they_are_tiled(tile, batches):
    sizes = []

    class Gpu(Recorder):
        device = torch.device("cuda")
        classes = None

        def fits_in_one_piece(self, size):
            return True

        def segment_batch(self, images, tta):
            sizes.append(len(images))
            return [(image[..., 0], image[..., 0]) for image in images]

        def segment(self, pixels, tiling, tta):
            sizes.append(1)

    threads = ComputeThreads(Gpu(1))
    model = SimpleNamespace(segmenter=Gpu(1), workflow=None)

    async def all_images() -> None:
        with threads._changed:
            tasks = [
                asyncio.ensure_future(threads.segment(model, PIXELS, Options(tile=tile)))
                for _ in range(3)
            ]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    try:
        asyncio.run(all_images())
    finally:
        threads.close()
    assert sizes == batches


def test_models_are_opened_in_threads_that_have_ended():
    """The OpenMP team of a living thread would slow down the threads that compute."""
    threads = []
    versions = iter("12")

    def opened():
        threads.append(threading.current_thread())
        return served(next(versions))

    slot = ModelSlot(opened, lambda: ("other", None), lambda line: None)
    slot.refresh()
    assert slot.current.version == "2"
    assert [thread.is_alive() for thread in threads] == [False, False]
