"""A renamed key works under its old name in every place, and one line names the new key."""

import copy

import pytest

from segtune.cli.main import main
from segtune.config import renamed
from segtune.config.commands import recorded_words
from segtune.config.compose import compose
from segtune.config.keys import flatten, validate
from segtune.config.renamed import RENAMED, current_tree, former_keys
from segtune.sweeping.engine.records import OVERRIDES
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.records import plain_params
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec, load_spec
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import get_run
from segtune.tracking.store import open_store

VALUES = {"loss.hardest": [0.25, 0.5]}
"""Old key -> two values that it may have, none of them the default."""
OLD_KEYS = pytest.mark.parametrize("old", RENAMED)


@pytest.fixture(autouse=True)
def a_new_process():
    """The line is printed once per process; each test stands for a process of its own."""
    renamed._print_notice.cache_clear()


def value_of(config, key):
    return dict(flatten(config.model_dump()))[key]


def notices(capsys, old):
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith(f"{old} is now {RENAMED[old]}.")]


def nested(key, value):
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def yaml_of(tree):
    import yaml

    return yaml.safe_dump(tree)


def test_every_renamed_key_has_values_to_try():
    assert set(VALUES) == set(RENAMED)


@OLD_KEYS
@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_a_word_with_an_old_key_sets_the_new_one(old, sign, capsys):
    composed = compose([f"{sign}{old}={VALUES[old][0]}", "seed=1"])
    compose([f"{sign}{old}={VALUES[old][0]}"])
    assert value_of(composed.config, RENAMED[old]) == VALUES[old][0]
    assert composed.origins[RENAMED[old]] == "command line"
    assert len(notices(capsys, old)) == 1


@OLD_KEYS
def test_a_new_key_prints_no_line(old, capsys):
    composed = compose([f"{RENAMED[old]}={VALUES[old][0]}"])
    assert value_of(composed.config, RENAMED[old]) == VALUES[old][0]
    assert capsys.readouterr().err == ""


@OLD_KEYS
@pytest.mark.parametrize("place", ["hp/mine.yaml", "config.yaml"])
def test_a_conf_file_with_an_old_key_sets_the_new_one(old, place, tmp_path, capsys):
    from segtune.config.conf_folders import shipped

    path = tmp_path / "conf" / place
    path.parent.mkdir(parents=True)
    text_below = yaml_of(nested(old, VALUES[old][0]))
    words = ["hp=mine"] if place.startswith("hp") else []
    text = "# @package _global_\nhp: {}\n" if words else (shipped("conf") / place).read_text()
    path.write_text(text + text_below)
    composed = compose(words)
    assert value_of(composed.config, RENAMED[old]) == VALUES[old][0]
    assert composed.origins[RENAMED[old]] == place
    assert len(notices(capsys, old)) == 1
    later = compose([*words, f"{RENAMED[old]}={VALUES[old][1]}"])
    assert value_of(later.config, RENAMED[old]) == VALUES[old][1]


def test_a_file_that_extends_ours_changes_the_renamed_key(tmp_path, capsys):
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("defaults: [ce_ohem]\nhardest: 0.5\n")
    assert compose(["loss=mine"]).config.loss.ohem_ratio == 0.5
    assert len(notices(capsys, "loss.hardest")) == 1


def test_an_interpolation_may_name_an_old_key(tmp_path):
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    text = "defaults: [ce_ohem]\nlabel_smoothing: ${loss.hardest}\n"
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text(text)
    assert compose(["loss=mine"]).config.loss.label_smoothing == 0.25


def test_an_old_key_can_be_taken_away():
    assert compose(["loss=ce_ohem"]).config.loss.ohem_ratio == 0.25
    assert compose(["loss=ce_ohem", "~loss.hardest"]).config.loss.ohem_ratio == 1.0


@OLD_KEYS
def test_a_recorded_config_is_read_silently(old, capsys):
    recorded = compose([f"{RENAMED[old]}={VALUES[old][0]}"]).config.model_dump(mode="json")
    *path, name = RENAMED[old].split(".")
    section = recorded
    for part in path:
        section = section[part]
    before = copy.deepcopy(recorded)
    value = section.pop(name)
    earlier = recorded
    for part in old.split(".")[:-1]:
        earlier = earlier[part]
    earlier[old.split(".")[-1]] = value
    unchanged = copy.deepcopy(recorded)
    assert validate(recorded) == validate(before)
    assert recorded == unchanged  # the record itself stays as it is
    assert capsys.readouterr().err == ""


@OLD_KEYS
def test_a_recorded_command_is_read_with_the_new_key(old):
    command = f"segtune train seed=1 {old}={VALUES[old][0]}"
    assert recorded_words(command, "train") == ["seed=1", f"{RENAMED[old]}={VALUES[old][0]}"]


@OLD_KEYS
def test_where_both_names_stand_the_later_one_counts(old):
    first, second = VALUES[old]
    *path, old_name = old.split(".")
    new_name = RENAMED[old].split(".")[-1]
    for names, expected in (((old_name, new_name), second), ((new_name, old_name), second)):
        tree = dict(zip(names, (first, second), strict=True))
        for part in reversed(path):
            tree = {part: tree}
        assert dict(flatten(current_tree(tree)))[RENAMED[old]] == expected


@OLD_KEYS
def test_config_explains_a_key_that_is_asked_for_by_its_old_name(old, capsys):
    assert main(["config", old]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(RENAMED[old]) and captured.err.count(RENAMED[old]) == 1


def sweep_file(tmp_path, **parts):
    (tmp_path / "sweeps").mkdir()
    file = {"n_trials": 2, "overrides": ["dataset=street"], "search": {"seed": [0, 1]}, **parts}
    (tmp_path / "sweeps" / "mine.yaml").write_text(yaml_of(file))
    return "mine"


@OLD_KEYS
@pytest.mark.parametrize("place", ["search", "overrides", "enqueue", "words", "sweep.search"])
def test_a_sweep_takes_an_old_key_in_every_place(old, place, tmp_path, capsys):
    first, second = VALUES[old]
    parts, words = {}, []
    if place in ("search", "enqueue"):
        parts["search"] = {old if place == "search" else RENAMED[old]: [first, second]}
    if place == "enqueue":
        parts["enqueue"] = [{old: second}]
    if place == "overrides":
        parts["overrides"] = ["dataset=street", f"{old}={first}"]
    if place == "words":
        words = [f"{old}={first}"]
    if place == "sweep.search":
        words = [f"sweep.search.{old}=[{first},{second}]", "sweep.n_trials=4"]
    spec = load_spec(sweep_file(tmp_path, **parts), words)
    space = build_space(spec)
    assert len(notices(capsys, old)) == 1
    if place in ("overrides", "words"):
        assert f"{RENAMED[old]}={first}" in spec.overrides
    else:
        assert RENAMED[old] in {d.key for d in space.dimensions}
        assert old not in spec.search
    if place == "enqueue":
        assert space.enqueued[0][RENAMED[old]] == second


@OLD_KEYS
def test_a_sweep_refuses_an_override_of_what_it_searches_under_either_name(old, tmp_path, capsys):
    from segtune.errors import ConfigError

    name = sweep_file(tmp_path, search={old: VALUES[old]})
    for key in (old, RENAMED[old]):
        with pytest.raises(ConfigError, match="varies it"):
            build_space(load_spec(name, [f"{key}={VALUES[old][0]}"]))
    capsys.readouterr()


@OLD_KEYS
def test_a_study_that_recorded_an_old_key_goes_on(old, tmp_path, monkeypatch, capsys):
    new, choices = RENAMED[old], VALUES[old]
    facts = {"settings": {new: choices[0], "seed": 0}}
    spec = SweepSpec(
        name="t", n_trials=1, sampler="grid", overrides=["dataset=street"], search={new: choices}
    )
    study, space = SweepStudy(tmp_path, spec), build_space(spec)
    study.check_identity({**facts, "space": [d.describe() for d in space.dimensions]})
    study.begin()
    claim = study.claim(space)
    study.finish(claim.trial, 0.5)

    # write the study again as the version before the rename did
    older, older_spec = tmp_path / "older", spec.model_copy(update={"search": {old: choices}})
    (before,) = study.study.get_trials()
    past = SweepStudy(older, older_spec)
    identity = study.study.user_attrs["identity"]
    identity["search"] = {old: choices}
    identity["settings"] = {old: choices[0], "seed": 0}
    identity["space"] = [line.replace(new, old) for line in identity["space"]]
    past.study.set_user_attr("identity", identity)
    before.params = {old: before.params[new]}
    before.distributions = {old: before.distributions[new]}
    words = [word.replace(new, old) for word in before.user_attrs[OVERRIDES]]
    before.user_attrs[OVERRIDES] = words
    past.study.add_trial(before)

    longer = SweepSpec.model_validate({**older_spec.model_dump(), "n_trials": 2})
    resumed, space = SweepStudy(older, longer), build_space(longer)
    resumed.check_identity({**facts, "space": [d.describe() for d in space.dimensions]})
    resumed.begin()
    claim = resumed.claim(space)
    assert set(claim.trial.params) == {old}  # one name in the study, so that the sampler sees both
    resumed.finish(claim.trial, 0.6)
    assert resumed.claim(space) is None
    values = [plain_params(trial)[new] for trial in resumed.study.get_trials()]
    assert sorted(values) == [str(choice) for choice in choices]
    assert former_keys(new) == [old]
    assert capsys.readouterr().err == ""


@OLD_KEYS
def test_a_run_that_logged_an_old_key_is_compared_under_the_new_one(old, tmp_path):
    from segtune.config.schema import TrackingConfig

    store = open_store(TrackingConfig(root=str(tmp_path / "mlruns")))
    run = RunWriter.create(store, "r", {old: VALUES[old][0]}, {"segtune.kind": "run"})
    assert get_run(store, run.run_id).params == {RENAMED[old]: str(VALUES[old][0])}
