"""Declarations: the values that a hyperparameter accepts, and its messages for other values."""

import pytest

from segtune.config.conf_files import load_template
from segtune.config.template import Hyperparameter, parse_template
from segtune.errors import ConfigError


def test_segformer_declares_the_hyperparameters_of_a_hosted_segmenter():
    declared = load_template("segformer").hyperparameters
    assert {
        "image_size",
        "batch_size",
        "num_epochs",
        "per_item_lrate",
        "pretrained_weights",
    } <= set(declared)
    for name, largest in (("batch_size", 16), ("num_epochs", 200)):
        hyperparameter = declared[name]
        assert (hyperparameter.min, hyperparameter.max, hyperparameter.step) == (1, largest, 1)
    assert declared["per_item_lrate"].min == 0.0


@pytest.mark.parametrize("value", [0, 17, 2.5, "8", True, float("nan"), float("inf")])
def test_values_outside_a_range_are_refused_with_the_range(value):
    with pytest.raises(ConfigError, match=r"hp\.batch_size=.*1\.\.16 step 1"):
        load_template("segformer").resolve({"batch_size": value})


def test_step_counts_from_the_minimum():
    width = Hyperparameter("width", default=8, min=8, max=32, step=8)
    assert width.check(16) == 16
    with pytest.raises(ConfigError, match="step 8"):
        width.check(12)


def test_image_size_takes_one_value_or_two():
    size = load_template("segformer").hyperparameters["image_size"]
    assert size.check(512) == [512] and size.check([640, 480]) == [640, 480]
    with pytest.raises(ConfigError, match="shorter side"):
        size.check([1, 2, 3])


def test_unknown_hyperparameter_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        load_template("unet").resolve({"batchsize": 4})


def test_open_choices_take_any_name_and_closed_ones_do_not():
    assert load_template("unet").hyperparameters["encoder"].check("regnety_002") == "regnety_002"
    closed = Hyperparameter("mode", default="a", choices=("a", "b"))
    with pytest.raises(ConfigError, match="not one of a, b"):
        closed.check("c")


def test_a_default_outside_its_own_range_is_a_faulty_template():
    raw = {"name": "t", "model": {}, "hyperparameters": {"x": {"default": 5, "min": 6, "max": 9}}}
    with pytest.raises(ConfigError, match=r"hp\.x=5"):
        parse_template(raw)


def test_unknown_keys_of_a_declaration_are_refused():
    raw = {"name": "t", "model": {}, "hyperparameters": {"x": {"default": 5, "minn": 1}}}
    with pytest.raises(ConfigError, match="minn"):
        parse_template(raw)
