"""Epochs that fit into a time, batches that fit into memory, image sizes that fit an encoder."""

import time

import pytest
import torch
import yaml

import segtune
from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.data.batches.datamodule import LoaderOptions, SegmentationData, val_batch_size
from segtune.errors import ConfigError, OutOfMemory
from segtune.models.build import build
from segtune.models.fitting import check_image_size
from segtune.tasks.segmentation import Segmentation
from segtune.tracking.runs import artifact
from segtune.tracking.store import open_store
from segtune.training.components import prepare
from segtune.training.run_timing import RunTiming, ending_seconds
from segtune.training.time_budget import forecast_seconds, within_minutes
from tests.conftest import TINY


@pytest.mark.slow  # nine seconds by the clock
@pytest.mark.ci
def test_a_run_ends_within_its_minutes_and_records_what_fitted(tmp_path):
    words = [w for w in TINY if "num_epochs" not in w]
    started = time.monotonic()
    done = segtune.train(
        *words, "trainer.minutes=0.15", f"tracking.root='{tmp_path}'", say=lambda _: None
    )
    assert time.monotonic() - started < 20  # 9 s, and what a busy machine adds
    store = open_store(TrackingConfig(root=str(tmp_path)))
    config = yaml.safe_load(artifact(store, done.run_id, "config.yaml").read_text())
    assert config["trainer"]["minutes"] is None and config["hp"]["num_epochs"] > 3
    assert -(-config["hp"]["num_epochs"] // config["trainer"]["val_every"]) <= 21


def test_more_minutes_fit_more_epochs_up_to_the_limit_of_the_template(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "segtune.training.time_budget.measure_timing",
        lambda _: RunTiming(0.5, 1.0, 2.0, 4.0, steps=4),
    )
    words = [*(w for w in TINY if "num_epochs" not in w), f"tracking.root='{tmp_path}'"]

    def chosen(minutes: float) -> tuple[int, int]:
        """Number of epochs, and of validations."""
        components = prepare(compose([*words, f"trainer.minutes={minutes}"]).config, lambda _: None)
        config = within_minutes(components, time.monotonic(), lambda _: None).config
        return config.hp["num_epochs"], -(-config.hp["num_epochs"] // config.trainer.val_every)

    # whole images do not grow: 4 s an epoch, 2 s a validation, 4 s after the last
    assert chosen(1) in ((9, 3), (10, 3))  # 0.85 * 60 s = 4 e + 2 * 5: at least three validations
    assert chosen(10)[0] in (119, 120)  # 510 s = 4 e + 2 * 14: twelve take a twentieth of the time
    assert chosen(10)[1] in (10, 11, 12)  # val_every is a whole number, so fewer may remain
    epochs, validations = chosen(60)  # 3060 s = 4 e + 2 * 22: twenty validations at most
    assert epochs in (753, 754) and validations == 20
    assert chosen(100_000)[0] == 1000  # the limit of swift


@pytest.mark.parametrize(
    ("epochs", "every", "passes"), [(2, 5, 1), (10, 5, 2), (11, 5, 3), (3, 1, 3)]
)
def test_a_forecast_counts_the_validation_after_the_last_epoch(
    epochs, every, passes, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "segtune.training.time_budget.measure_timing",
        lambda *_: RunTiming(0.0, 0.0, 1.0, 0.0, steps=1),
    )
    monkeypatch.setattr("segtune.training.time_budget.prepare", lambda *_: None)
    words = [
        *TINY,
        f"hp.num_epochs={epochs}",
        f"trainer.val_every={every}",
        f"tracking.root='{tmp_path}'",
    ]
    assert forecast_seconds(compose(words).config) == passes


def test_a_cpu_validates_a_few_images_at_a_time(tmp_path):
    components = prepare(compose([*TINY, f"tracking.root='{tmp_path}'"]).config, lambda _: None)
    data = SegmentationData(
        components.train, components.train, components.augment, LoaderOptions(6)
    )
    assert [len(b["mask"]) for b in data.val_dataloader()] == [4, 2]
    assert val_batch_size(16, torch.device("cuda")) == 16


def test_epochs_and_minutes_cannot_be_combined():
    with pytest.raises(
        ConfigError, match=r"num_epochs and trainer.minutes=5.*cannot be combined.*minutes=null"
    ):
        compose(["hp=fast", "hp.num_epochs=3"])
    config = compose(["hp=fast", "hp.num_epochs=3", "trainer.minutes=null"]).config
    assert config.hp["num_epochs"] == 3


def test_accumulating_keeps_updates_and_learning_rate(tmp_path):
    words = [w for w in TINY if "batch_size" not in w and "num_epochs" not in w]
    words += [
        "hp.batch_size=6",
        "++hp.num_epochs=1",
        "trainer.limit_train_batches=null",
        f"tracking.root='{tmp_path}'",
    ]
    whole = prepare(compose(words).config, lambda _: None)
    parts = prepare(compose([*words, "trainer.accumulate=3"]).config, lambda _: None)
    assert (whole.lr, whole.step_size, parts.lr, parts.step_size) == (parts.lr, 6, whole.lr, 2)
    options = LoaderOptions(parts.batch_size, max_val_batch=parts.step_size)
    data = SegmentationData(parts.train, parts.val, parts.augment, options)
    assert len(data.train_dataloader()) == 1 and len(next(iter(data.val_dataloader()))["mask"]) == 2
    assert segtune.train(*words, "trainer.accumulate=3", say=lambda _: None).state == "finished"
    with pytest.raises(ConfigError, match="does not divide"):
        prepare(compose([*words, "trainer.accumulate=4"]).config, lambda _: None)


def test_a_batch_is_split_into_the_fewest_parts_that_fit(monkeypatch, tmp_path):
    def too_small(components):
        if components.step_size > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr("segtune.training.components.try_step", too_small)
    words = [w for w in TINY if "batch_size" not in w] + [
        "hp.batch_size=6",
        f"tracking.root='{tmp_path}'",
    ]
    lines = []
    components = prepare(compose([*words, "trainer.accumulate=auto"]).config, lines.append)
    assert components.parts == 3 and any("3 parts of 2, lr per item kept" in line for line in lines)


def test_a_step_that_does_not_fit_into_memory_names_one_that_does(monkeypatch, tmp_path):
    compute_outputs = Segmentation.outputs

    def outputs(self, model, loss, batch):
        if len(batch["image"]) > 1:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"
            )
        return compute_outputs(self, model, loss, batch)

    monkeypatch.setattr(Segmentation, "outputs", outputs)
    with pytest.raises(OutOfMemory, match=r"steps of 1 fit. Set trainer.accumulate=3"):
        segtune.train(*TINY, f"tracking.root='{tmp_path}'", say=lambda _: None)


@pytest.mark.parametrize("encoder", ["swin_tiny_patch4_window7_224", "coatnet_pico_rw_224"])
def test_an_image_size_that_does_not_fit_the_encoder_names_the_next_that_does(encoder):
    model = build({"architecture": "FPN", "encoder": encoder}, 3)
    check_image_size(model, (224, 224), encoder)
    with pytest.raises(ConfigError, match=r"no images of 128x96.*hp.image_size=\[224,224\]"):
        check_image_size(model, (96, 128), encoder)


def test_an_encoder_with_a_position_for_each_patch_takes_any_size():
    check_image_size(
        build({"architecture": "Segformer", "encoder": "mit_b0"}, 3), (97, 131), "mit_b0"
    )


def test_sizes_of_val_images_are_checked_before_training(tmp_path):
    words = [w for w in TINY if not w.startswith(("template", "hp.width", "augment"))]
    words += [
        "template=fpn",
        "hp.encoder=swin_tiny_patch4_window7_224",
        "hp.pretrained_weights=none",
    ]
    words += ["augment=growing_crops", "augment.crop_size=224", "augment.crop_start=224"]
    with pytest.raises(ConfigError, match=r"takes no images of 96x64.*hp.image_size=\[224,224\]"):
        prepare(compose([*words, f"tracking.root='{tmp_path}'"]).config, lambda _: None)


@pytest.mark.parametrize(
    ("architecture", "encoder"), [("Swift", "x"), ("Unet", "resnet18"), ("FPN", "resnet18")]
)
def test_convolutional_encoders_take_any_size_without_a_check(architecture, encoder, monkeypatch):
    monkeypatch.setattr("segtune.models.fitting._refusal", None)  # calling it would fail
    check_image_size(
        build({"architecture": architecture, "encoder": encoder}, 3), (97, 131), encoder
    )


def test_the_ending_grows_with_the_number_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "segtune.training.run_timing._warm_seconds", lambda action, _: (action(), 1.0)[1]
    )
    words = [*TINY, "tracking.overlays=2", f"tracking.root='{tmp_path}'"]
    components = prepare(compose(words).config, lambda _: None)
    before = {name: tensor.clone() for name, tensor in components.model.state_dict().items()}
    # val images and overlays, then train images
    assert ending_seconds(components) == pytest.approx(0.5 + (3 + 2) * 1.0 + 6 * 1.0)
    for name, tensor in components.model.state_dict().items():
        assert torch.equal(before[name], tensor)
    without = prepare(compose([*words, "trainer.class_offsets=false"]).config, lambda _: None)
    assert ending_seconds(without) == pytest.approx(5.5)
