"""Enqueued configurations: checked against the space, tried first, each once."""

import pytest

from segtune.errors import ConfigError
from segtune.sweeping.engine.records import OVERRIDES
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec, load_spec

SEARCH = {
    "template": ["swift", "fpn"],
    "hp.width": [24, 32],
    "hp.per_item_lrate": {"min": 1e-4, "max": 1e-2, "log": True},
    "trainer.ema_decay": [0.98, 0.99],
}
FIXED = ("dataset=street", "hp.pretrained_weights=none", "hp=quick")


def spec(enqueue, search=None, overrides=FIXED, **options):
    values = {"name": "t", "n_trials": 6, "sampler": "random", "pruner": "none", **options}
    return SweepSpec(search=search or SEARCH, overrides=list(overrides), enqueue=enqueue, **values)


def run(study, space, at_most=99):
    """The overrides of the trials that a study hands out."""
    overrides = []
    while len(overrides) < at_most and (claim := study.claim(space)) is not None:
        overrides.append(claim.overrides[len(FIXED) :])
        study.finish(claim.trial, 0.5)
    return overrides


def test_enqueued_configurations_are_tried_first_and_once_despite_interruptions(tmp_path):
    known_good = {"template": "fpn", "hp.per_item_lrate": 2e-3, "trainer.ema_decay": 0.99}
    sweep = spec(["default", known_good])
    space = build_space(sweep)
    (first,) = run(SweepStudy(tmp_path, sweep), space, at_most=1)
    study = SweepStudy(tmp_path, sweep)
    study.release(study.claim(space).trial)  # interrupted
    others = run(SweepStudy(tmp_path, sweep), space)
    default = ["hp.width=32", "hp.per_item_lrate=0.002", "trainer.ema_decay=0.98"]
    assert first == ["template=swift", *default]
    assert others[0] == ["template=fpn", "hp.per_item_lrate=0.002", "trainer.ema_decay=0.99"]
    assert len(others) == 5 and study.counts().finished == 6
    assert len({tuple(t.user_attrs[OVERRIDES]) for t in study.counted()}) == 6


@pytest.mark.parametrize(
    ("enqueue", "message"),
    [
        ([{"hp.width": 40}], r"item 1: hp\.width=40 is not in the space, which holds 24, 32"),
        ([{"hp.per_item_lrate": 0.5}], r"0\.0001 to 0\.01, logarithmic"),
        ([{"hp.widht": 24}], "did you mean 'hp.width'"),
        ([{"hp.depth": 1}], "hp.depth is not searched"),
        ([{"template": "unet"}], "template=unet is not in the space"),
        ([{"template": "fpn", "hp.width": 24}], "does not apply to template=fpn"),
        (
            ["default", {"hp.width": 24}, {"hp.width": 24}],
            "item 3 is the same configuration as item 2",
        ),
        ([{"hp.width": True}], "hp.width=true is not in the space"),
        ([{"hp.width": "24"}], "hp.width='24' is not in the space"),
    ],
)
def test_a_configuration_outside_of_the_space_is_refused(enqueue, message):
    with pytest.raises(ConfigError, match=message):
        build_space(spec(enqueue))


def test_a_default_outside_of_the_space_is_refused_and_the_key_named():
    search = {"hp.width": [16, 24]}
    message = r"hp\.width=32 \(its default\).*give hp\.width in this item"
    with pytest.raises(ConfigError, match=message):
        build_space(spec(["default"], search, n_trials=2))
    space = build_space(spec([{"hp.width": 16}], search, n_trials=2))
    assert space.enqueued == ({"hp.width": 16},)


def test_more_configurations_than_trials_are_refused():
    with pytest.raises(ConfigError, match="enqueue lists 2 configurations, and sweep.n_trials=1"):
        build_space(spec([{"hp.width": 24}, {"hp.width": 32}], n_trials=1))


def test_the_command_line_may_enqueue(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(
        "# Question: none\nn_trials: 2\nsearch: {hp.width: [24, 32]}\nenqueue: [default]\n"
    )
    assert load_spec(str(file)).enqueue == ["default"]
    assert load_spec(str(file), ["sweep.enqueue=[{hp.width: 24}]"]).enqueue == [{"hp.width": 24}]
    narrowed = load_spec(str(file), ["sweep.search.hp.width=[48]", "sweep.search.seed=[0, 1]"])
    assert narrowed.search == {"hp.width": [48], "seed": [0, 1]}
