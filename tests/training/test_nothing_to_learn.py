"""Data without anything to learn or to count is refused with the reason."""

from pathlib import Path

import numpy as np
import pytest
import torch

import segtune
from segtune.config.compose import compose
from segtune.errors import ConfigError, DataError, Diverged
from segtune.inference.decisions import decide
from segtune.training.components import prepare
from tests.conftest import TINY, write_pairs

SWIFT = [
    "template=swift",
    "trainer=debug",
    "augment=none",
    "hp.width=16",
    "hp.image_size=[64]",
    "hp.batch_size=2",
]
MASKS = {
    "0/255": lambda rng: (rng.random((64, 64)) > 0.5).astype(np.uint8) * 255,
    "ignored": lambda rng: np.full((64, 64), 255, np.uint8),
    "one class": lambda rng: np.full((64, 64), 2, np.uint8),
    "three classes": lambda rng: rng.integers(0, 3, (64, 64), dtype=np.uint8),
}


def folder(root: Path, **kinds: str) -> list[str]:
    """Write a dataset of three classes with such masks in each split; return its overrides."""
    rng = np.random.default_rng(0)
    for split, kind in kinds.items():
        image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        write_pairs(root, split, [(image, MASKS[kind](rng)) for _ in range(3)])
    return ["dataset=folder", f"dataset.root={root}", "dataset.classes=[road,car,sky]"]


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (
            "0/255",
            "three classes",
            r"'train' show one class alone, road .id 0., of 3.*set dataset.mask_format=binary",
        ),
        ("ignored", "three classes", r"every pixel of the 3 masks of split 'train' is ignored"),
        (
            "one class",
            "three classes",
            r"'train' show one class alone, sky \(id 2\).*segtune check dataset=folder",
        ),
        ("three classes", "ignored", r"every pixel of the 3 masks of split 'val' is ignored"),
    ],
)
def test_a_split_without_two_classes_or_counted_pixels_is_refused(train, val, message, tmp_path):
    words = folder(tmp_path / "data", train=train, val=val)
    with pytest.raises(DataError, match=message):
        segtune.train(*words, *SWIFT, f"tracking.root={tmp_path / 'store'}", say=lambda _: None)
    assert not list((tmp_path / "store").glob("runs/*"))  # no run began


def test_a_split_of_ignored_pixels_is_not_evaluated(tiny_run, store_root, tmp_path):
    folder(tmp_path, val="ignored")
    names = ",".join(c.name for c in segtune.load(tiny_run.segmenter).classes.classes)
    words = ["dataset=folder", f"dataset.root={tmp_path}", f"dataset.classes=[{names}]"]
    with pytest.raises(DataError, match="split 'val' is ignored, so that nothing counts"):
        segtune.evaluate(
            tiny_run.run_id, *words, f"tracking.root='{store_root}'", say=lambda _: None
        )


def test_outputs_that_are_not_finite_end_the_run_as_diverged(tmp_path):
    words = [
        *TINY,
        "optimizer=sgd",
        "hp.per_item_lrate=1e30",
        "trainer.limit_train_batches=1",
        "loss=ce",
    ]
    with pytest.raises(
        Diverged, match=r"outputs for val images are not finite after step 1 .*lr.*per_item_lrate"
    ):
        segtune.train(*words, f"tracking.root='{tmp_path}'", say=lambda _: None)


def test_logits_that_are_not_finite_are_refused():
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, 1, 2, 2] = torch.nan
    with pytest.raises(DataError, match="outputs are not finite"):
        decide(logits, (8, 8))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer=gpu"], "torch finds no CUDA device"),
        (["hp.pretrained_weights=nosuch.safetensors"], "no such file or folder"),
        (["hp.pretrained_weights='models:/nosuch@champion'"], "no such registered segmenter"),
        (["hp.pretrained_weights='runs:/0123456789'"], "is not in the store"),
        (
            ["template=unet", "hp.encoder=resnet18", "hp.pretrained_weights=imagenet"],
            "cannot be loaded",
        ),
    ],
)
def test_missing_devices_and_weights_are_refused_before_data_is_read(
    words, message, tmp_path, monkeypatch
):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    monkeypatch.setattr(
        "segtune.training.components.open_source", lambda *_: pytest.fail("data was read")
    )
    camvid = ["dataset=camvid", f"dataset.root={tmp_path / 'camvid'}"]  # would be downloaded
    with pytest.raises(ConfigError, match=message):
        prepare(
            compose([*camvid, *words, f"tracking.root={tmp_path / 'store'}"]).config, lambda _: None
        )
