"""Composition: precedence, validation before anything starts, and where each value came from."""

import time
from pathlib import Path

import pytest

from segtune.config import compose
from segtune.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("los=ce", "did you mean 'loss'"),
        ("loss=cee", "did you mean 'ce'"),
        ("template=segformr", "did you mean 'segformer'"),
        ("trainer.thread=3", "'trainer.threads'"),
        ("hp.batchsize=3", "did you mean 'batch_size'"),
        ("optimizer.weight_dcay=0", "weight_decay"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name_in_under_two_seconds(override, hint):
    started = time.perf_counter()
    with pytest.raises(ConfigError, match=hint):
        compose([override])
    assert time.perf_counter() - started < 2.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.threads=many", "trainer.threads='many'"),
        ("trainer.workers=many", r"^trainer.workers='many': Input should be 'auto', or a valid integer"),
        ("trainer.accumulate=0", r"^trainer.accumulate=0: Input should be 'auto', or greater than"),
        ("trainer.threads=0", "greater than or equal to 1"),
        ("loss.stride=2", "1 or 4"),
        ("scheduler.warmup=1.5", "less than or equal to 1"),
        ("loss.terms={hinge:1}", "'lovasz'"),
        ("loss.points=64", "points=64 changes the masks term, and terms names cross_entropy, lovasz alone"),
        ("hp.num_epochs=1,2", "segtune sweep"),
        ("two words", "not key=value"),
        ("dataset=folder", "dataset.root has no value"),
        ("seed=-1", "greater than or equal to 0"),
    ],
)
def test_wrong_values_are_told_with_key_and_what_is_allowed(override, message):
    with pytest.raises(ConfigError, match=message):
        compose([override])


def test_the_command_line_wins_over_a_recipe_and_a_recipe_over_the_template():
    assert compose(["template=swift"]).config.hp["num_epochs"] == 40
    assert compose(["template=swift", "hp=quick"]).config.hp["num_epochs"] == 12
    assert compose(["hp=quick", "hp.num_epochs=3"]).config.hp["num_epochs"] == 3
    assert compose(["template=swift"]).config.optimizer.name == "muon"
    assert compose(["template=swift", "optimizer=sgd"]).config.optimizer.name == "sgd"


def test_every_value_tells_where_it_came_from():
    origins = compose(["hp=quick", "seed=4"]).origins
    assert origins["seed"] == "command line"
    assert origins["hp.num_epochs"] == "hp/quick.yaml"
    assert origins["hp.width"] == "template swift"
    assert origins["loss.stride"] == "loss/ce_lovasz.yaml"
    assert origins["trainer.gradient_clip"] == "default"


def test_the_users_conf_extends_and_overrides_ours(tmp_path: Path):
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("terms: {dice: 2.0}\n")
    (tmp_path / "conf" / "loss" / "focal.yaml").write_text("terms: {focal: 3.0}\n")
    assert compose(["loss=mine"]).config.loss.terms == {"dice": 2.0}
    assert compose(["loss=focal"]).config.loss.terms == {"focal": 3.0}
    assert compose(["loss=ce"]).config.loss.terms == {"cross_entropy": 1.0}


def test_paths_with_spaces_and_quotes_survive():
    root = "/data/it's here"
    config = compose(["dataset=folder", "dataset.root='/data/it\\'s here'", "dataset.classes=[a,b]"]).config
    assert config.dataset.root == root


def test_lr_is_batch_size_times_per_item_lrate():
    from segtune.setup import Setup

    config = compose(["template=segformer", "hp.batch_size=4", "hp.per_item_lrate=1e-3"]).config
    setup = Setup(config, *[None] * 8)
    assert setup.lr == pytest.approx(4e-3)
