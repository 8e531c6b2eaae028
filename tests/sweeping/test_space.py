"""Search spaces: ranges out of the declarations, narrowed by the file, checked before anything starts."""

import optuna
import pytest

from segtune.config import compose
from segtune.errors import ConfigError
from segtune.sweeping.space import build_space
from segtune.sweeping.spec import SweepSpec, load_spec


def spec(search, overrides=("dataset=street",), **options):
    return SweepSpec(name="t", n_trials=4, search=search, overrides=list(overrides), **options)


def ask(space, seed=0, n=20):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.propose(study.ask()) for _ in range(n)]


def test_a_bare_name_takes_the_templates_own_range():
    space = build_space(spec({"hp.per_item_lrate": {}}, ["template=segformer", "hp.pretrained_weights=none"]))
    dimension = space.dimensions[0]
    assert (dimension.low, dimension.high, dimension.log) == (1e-6, 1e-3, True)


def test_every_proposal_composes_and_keeps_to_its_template():
    search = {"template": ["swift", "fpn"], "hp.width": {}, "hp.encoder": ["resnet18"], "loss": ["ce", "dice"]}
    for overrides in ask(build_space(spec(search))):
        composed = compose(overrides)
        assert ("hp.width" in " ".join(overrides)) == (composed.template.name == "swift")
        assert ("hp.encoder" in " ".join(overrides)) == (composed.template.name == "fpn")


def test_numeric_ranges_respect_type_and_step():
    space = build_space(spec({"hp.num_epochs": {"min": 2, "max": 8, "step": 2}}))
    values = {compose(o).config.hp["num_epochs"] for o in ask(space)}
    assert values <= {2, 4, 6, 8} and len(values) > 1


def test_settings_that_no_template_declares_are_searched_in_their_own_kind():
    search = {
        "seed": [0, 1, 2],
        "augment.scale": [[0.75, 1.5], [0.5, 2.0]],
        "augment.crop_start": {"min": 64, "max": 128, "step": 32},
        "augment.hflip": {"min": 0, "max": 1},
        "trainer.ema_decay": [None, 0.99],
    }
    found = [compose(o).config for o in ask(build_space(spec(search, ["dataset=street", "augment.crop_size=128"])))]
    assert {c.seed for c in found} == {0, 1, 2}
    assert {c.augment.scale for c in found} == {(0.75, 1.5), (0.5, 2.0)}
    assert {c.augment.crop_start for c in found} == {64, 96, 128}
    assert all(0 < c.augment.hflip < 1 for c in found)  # the file's whole numbers do not make a rate one
    assert {c.trainer.ema_decay for c in found} == {None, 0.99}


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"hp.widht": {}}, "did you mean 'width'"),
        ({"hp.width": {"min": 4, "max": 32}}, r"hp\.width=4"),
        ({"hp.width": {"low": 8}}, "unknown \\['low'\\]"),
        ({"hp.per_item_lrate": {"min": 1e-3, "max": 1e-4}}, "must lie below"),
        ({"hp.per_item_lrate": {"min": 0.0, "max": 1e-4, "log": True}}, "above 0"),
        ({"loss": ["ce", "hinge"]}, "no such loss 'hinge'"),
        ({"template": ["swift", "unett"]}, "did you mean 'unet'"),
        ({"speed": [1]}, "cannot be searched"),
        ({"sed": [1]}, "did you mean 'seed'"),
        ({"seed": []}, "give a list of choices"),
        ({"seed": [-1]}, "seed=-1"),
        ({"augment.crop_strat": [128]}, "did you mean 'augment.crop_start'"),
        ({"augment.hflip": {}}, "or min and max"),
        ({"augment.hflip": {"min": 0, "max": "much"}}, "numbers, and 'much' is none"),
        ({"augment.hflip": {"min": 0, "max": 1, "step": True}}, "numbers, and True is none"),
        ({"augment.crop_size": {"min": 64, "max": 128, "step": -32}}, "step -32 must lie above 0"),
        ({"augment.hflip": {"min": 0.5, "max": 0.1}}, "must lie below"),
        ({"augment.hflip": {"min": 0.5, "max": 1.5}}, r"augment\.hflip=1\.5"),
        ({"trainer.devices": [1, 2]}, "cannot be searched; all trials share it"),
        ({"tracking.root": ["a", "b"]}, "cannot be searched"),
    ],
)
def test_a_fault_in_the_space_is_told_before_anything_starts(search, message):
    with pytest.raises(ConfigError, match=message):
        build_space(spec(search))


def test_sweep_overrides_change_the_file_and_others_reach_every_trial():
    changed = load_spec("quickstart", ["sweep.n_trials=3", "sweep.workers=1", "hp.num_epochs=2"])
    assert (changed.n_trials, changed.workers) == (3, 1)
    assert changed.overrides[-1] == "hp.num_epochs=2"


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("quikstart", [], "did you mean 'quickstart'"),
        ("quickstart", ["sweep.n_trial=3"], "n_trials"),
        ("quickstart", ["sweep.n_trials=0"], "greater than or equal to 1"),
        ("quickstart", ["sweep.sampler=tpee"], "tpe"),
        ("none.yaml", [], "does not exist"),
    ],
)
def test_a_fault_in_the_file_is_told(name, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_spec(name, overrides)


def test_a_sweep_over_several_devices_a_trial_is_refused():
    with pytest.raises(ConfigError, match="trainer.devices=2.*one device"):
        build_space(spec({"hp.width": {}}, ["dataset=street", "trainer=ddp"]))
