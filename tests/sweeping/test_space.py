"""Search spaces: the templates' ranges, narrowed by the sweep file and checked at the start."""

import tracemalloc

import optuna
import pytest

from segtune.config.compose import compose
from segtune.errors import ConfigError
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec, load_spec


def spec(search, overrides=("dataset=street",), **options):
    return SweepSpec(name="t", n_trials=4, search=search, overrides=list(overrides), **options)


def ask(space, seed=0, n=20):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.propose(study.ask()) for _ in range(n)]


def test_a_bare_name_takes_the_templates_own_range():
    space = build_space(
        spec({"hp.per_item_lrate": {}}, ["template=segformer", "hp.pretrained_weights=none"])
    )
    dimension = space.dimensions[0]
    assert (dimension.low, dimension.high, dimension.log) == (1e-6, 1e-3, True)


def test_every_proposal_composes_and_keeps_to_its_template():
    search = {
        "template": ["swift", "fpn"],
        "hp.width": {},
        "hp.encoder": ["resnet18"],
        "loss": ["ce", "dice"],
    }
    for overrides in ask(build_space(spec(search))):
        composed = compose(overrides)
        assert ("hp.width" in " ".join(overrides)) == (composed.template.name == "swift")
        assert ("hp.encoder" in " ".join(overrides)) == (composed.template.name == "fpn")


def test_numeric_ranges_respect_type_and_step():
    space = build_space(spec({"hp.num_epochs": {"min": 2, "max": 8, "step": 2}}))
    values = {compose(o).config.hp["num_epochs"] for o in ask(space)}
    assert values <= {2, 4, 6, 8} and len(values) > 1


def test_settings_that_no_template_declares_are_searched_in_their_own_type():
    search = {
        "seed": [0, 1, 2],
        "augment.scale": [[0.75, 1.5], [0.5, 2.0]],
        "augment.crop_start": {"min": 64, "max": 128, "step": 32},
        "augment.hflip": {"min": 0, "max": 1},
        "trainer.ema_decay": [None, 0.99],
    }
    space = build_space(spec(search, ["dataset=street", "augment.crop_size=128"]))
    configs = [compose(overrides).config for overrides in ask(space)]
    assert {c.seed for c in configs} == {0, 1, 2}
    assert {c.augment.scale for c in configs} == {(0.75, 1.5), (0.5, 2.0)}
    assert {c.augment.crop_start for c in configs} == {64, 96, 128}
    # a rate stays a real number although the file writes its ends as whole numbers
    assert all(0 < c.augment.hflip < 1 for c in configs)
    assert {c.trainer.ema_decay for c in configs} == {None, 0.99}


def test_a_wide_range_of_seeds_costs_no_memory():
    tracemalloc.start()
    space = build_space(spec({"seed": {"min": 0, "max": 2**31 - 1}, "hp.per_item_lrate": {}}))
    assert space.size(10) is None  # a learning rate is continuous
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    tracemalloc.stop()


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
def test_a_fault_in_the_space_is_reported_before_anything_starts(search, message):
    with pytest.raises(ConfigError, match=message):
        build_space(spec(search))


@pytest.mark.parametrize(
    ("search", "overrides", "message"),
    [
        (
            {"hp.width": [16, 24]},
            ["hp.width=16"],
            "hp.width=16 stands under overrides.*search.hp.width varies it",
        ),
        ({"loss": ["ce", "dice"]}, ["loss=ce_dice"], "search.loss varies it"),
        ({"template": ["swift", "fpn"]}, ["template=unet"], "search.template varies it"),
        (
            {"augment.scale": [[0.5, 2.0]]},
            ["++augment.scale=[0.9,1.1]"],
            "search.augment.scale varies it",
        ),
        ({"hp.width": [16]}, ["resume=0123"], "a trial begins a run of its own"),
    ],
)
def test_an_override_of_a_searched_key_is_refused(search, overrides, message):
    with pytest.raises(ConfigError, match=message):
        build_space(spec(search, ["dataset=street", *overrides]))


@pytest.mark.parametrize(
    "search",
    [
        {"dataset": ["street", "camvid"]},
        {"dataset.ignore": [[0], [255]]},
        {"kind": ["segmenter", "labeler"]},
        {"labeler.concept": ["car", "building"]},
        {"tracking": ["local", "server"]},
        {"cache.max_gb": [1, 2]},
        {"resume": ["a", "b"]},
        {"trainer.accelerator": ["cpu", "gpu"]},
        {"trainer": ["cpu", "ddp"]},
    ],
)
def test_a_key_that_all_trials_share_cannot_be_searched(search):
    with pytest.raises(ConfigError, match="cannot be searched; .*(all trials share|shared)"):
        build_space(spec(search, []))


@pytest.mark.parametrize(
    "search",
    [
        {"hp.width": [16, 16]},
        {"hp.width": [16, 24, 16.0]},
        {"hp.image_size": [64, [64]]},
        {"seed": [0, "0"]},
        {"loss": ["ce", "dice", "ce"]},
        {"template": ["swift", "swift"]},
        {"augment.scale": [[0.5, 2], [0.5, 2.0]]},
        {"hp.pretrained_weights": [None, "none"]},
    ],
)
def test_a_choice_that_appears_twice_is_refused(search):
    with pytest.raises(ConfigError, match="appears twice"):
        build_space(spec(search))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"hp.per_item_lrate": {"min": 1e-4, "max": 1e-2, "log": True, "step": 1e-4}},
            "log and step 0.0001 cannot be",
        ),
        (
            {"hp.width": {"min": 16, "max": 64, "log": True}},
            r"the template declares that step.*as \[16, 32, 64\]",
        ),
        ({"hp.num_epochs": {"min": 2, "max": 8, "step": 4}}, "Give max: 6 or 10"),
        ({"augment.hflip": {"min": 0.1, "max": 0.75, "step": 0.2}}, "Give max: 0.7 or 0.9"),
        ({"hp.width": {"min": 16, "max": 64, "step": 12}}, "multiple of 8"),
        ({"hp.num_epochs": {"min": 2, "max": 8, "step": 0.5}}, "whole numbers"),
        ({"hp.num_epochs": {"min": 2, "max": 8, "step": 0}}, "must lie above 0"),
        ({"augment.crop_start": {"min": 64.5, "max": 128}}, "whole numbers"),
        ({"hp.per_item_lrate": {"min": 1e-4, "max": float("inf")}}, "finite"),
        ({"hp.per_item_lrate": {"min": 1e-4, "max": 1e-2, "log": "false"}}, "log is true or false"),
        ({"hp.width": {"min": 16, "max": 64, "choices": [16]}}, "not both"),
        ({"hp.width": 16}, "One value for all trials is an override: hp.width=16"),
        ({"hp.width": ["16", "24"]}, "written without quotes"),
        ({"hp.image_size": {"min": 64, "max": 128}}, "give a list of choices"),
        ({"hp.image_size": {}}, r"a list of choices, as \[\["),
        ({"loss.stride": {"min": 1, "max": 4}}, "give a list of choices"),
        ({"trainer.class_offsets": {"min": 0, "max": 1}}, "give a list of choices"),
        ({"seed": [1, True]}, "true is read as 1"),
        ({"loss.terms": [{"focal": 1}]}, "is added to the values from before"),
        ({"hp": {"width": [16]}}, "each with its whole name: hp.width"),
        ({"hp.encoder": ["resnet18"]}, "no template of this sweep declares it"),
        ({"loss": ["ce", "masks"]}, "search.loss: .*template=swift has none"),
    ],
)
def test_a_range_that_trials_cannot_follow_is_refused(search, message):
    with pytest.raises(ConfigError, match=message):
        build_space(spec(search))


def test_a_step_that_divides_the_range_up_to_rounding_is_accepted():
    space = build_space(spec({"augment.hflip": {"min": 0.1, "max": 0.7, "step": 0.2}}))
    assert {round(compose(o).config.augment.hflip, 9) for o in ask(space)} == {0.1, 0.3, 0.5, 0.7}


def test_overrides_may_belong_to_a_searched_template_that_is_not_the_default():
    overrides = ["dataset=street", "hp.encoder=resnet18", "hp.pretrained_weights=none"]
    space = build_space(spec({"template": ["fpn", "unet"], "hp.batch_size": [2, 4]}, overrides))
    assert all(compose(o).template.name in ("fpn", "unet") for o in ask(space))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_trials: 2\nsearch:\n\thp.width: [16]\n", "cannot be read as YAML"),
        ("n_trials: 2\nsearch: {seed: [0, 1]}\nn_trials: 3\n", "duplicate key n_trials"),
        ("n_trials: 2\nsearch: {seed: [0], seed: [1]}\n", "duplicate key seed"),
        ("- n_trials: 2\n", "a mapping"),
        ("n_trials: 2\n", "search"),
        ("n_trials: 2\nsearch: {}\n", "search"),
        ("n_trials: 2\nsearch: [hp.width]\n", "search"),
        ("n_trials: 2\nsampling: tpe\nsearch: {seed: [0]}\n", "sampling: no such key"),
        ("n_trials: true\nsearch: {seed: [0]}\n", "a number is expected"),
        ("name: ../other\nn_trials: 2\nsearch: {seed: [0]}\n", "name"),
        ("n_trials: 9\nsearch: {seed: [0, 1], hp.width: [16, 24]}\n", "holds 4 configurations"),
    ],
)
def test_a_fault_in_the_text_of_the_file_is_reported(text, message, tmp_path):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        build_space(load_spec(str(tmp_path / "s.yaml")))


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
def test_a_fault_in_the_name_or_the_overrides_is_reported(name, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_spec(name, overrides)


def test_a_sweep_of_trials_on_several_devices_is_refused():
    with pytest.raises(ConfigError, match="trainer.devices=2.*one device"):
        build_space(spec({"hp.width": {}}, ["dataset=street", "trainer=ddp"]))
