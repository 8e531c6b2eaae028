"""Facts of masks counted by hand, and the decisions that follow from them."""

from dataclasses import replace

import numpy as np
import pytest

from segtune.automatic.decisions import base_side, decide
from segtune.automatic.facts import DataFacts, area_widths
from segtune.automatic.portfolio import Candidate, TimePlan, items, larger_side, share_time
from segtune.automatic.sweep_file import sweep_content, write_sweep_file
from segtune.config.compose import compose
from segtune.errors import ConfigError
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import load_spec

FACTS = DataFacts(
    images={"train": 200, "val": 50},
    size=(360, 480),
    shares={"road": 0.7, "car": 0.3, "never": 0.0},
    widths={"road": 80.0, "car": 20.0},
    image_size=[360],
    halves=0.6,
    groups=None,
)


def words_of(facts: DataFacts, given=()) -> list[str]:
    return [text for decision in decide(facts, given) for text in decision.words]


def test_the_width_of_a_strip_is_its_width():
    mask = np.zeros((40, 60), np.uint8)
    mask[10:13] = 1
    mask[:, 30:37] = 2
    assert area_widths(mask)[1] == pytest.approx(3.0, rel=0.1)
    assert area_widths(mask)[2] == pytest.approx(7.0, rel=0.2)
    assert area_widths(np.full((5, 5), 3, np.uint8)) == {}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "hp.image_size=[360]"),
        ({"size": (1080, 1920)}, "hp.image_size=[360]"),
        ({"size": (1080, 1920), "widths": {"crack": 3.0}}, "hp.image_size=[540]"),
        ({"size": (400, 400), "widths": {"crack": 3.0}}, "hp.image_size=[400]"),
        ({"size": (150, 200)}, "hp.image_size=[150]"),
        ({"size": (150, 200)}, "augment.crop_size=128"),
        ({"size": (40, 40)}, "augment.crop_size=64"),
        ({"images": {"train": 20}}, "hp.batch_size=4"),
        ({"images": {"train": 2}}, "hp.batch_size=1"),
        ({"halves": 0.01}, "augment.vflip=0.5"),
        ({"shares": {"road": 0.999, "crack": 0.001}}, "sampling.rare_crops=0.5"),
    ],
)
def test_facts_lead_to_words_that_compose(changes, word):
    words = words_of(replace(FACTS, **changes))
    assert word in words
    compose(["dataset=street", "hp=fast", *words])


def test_ordinary_data_need_few_words_and_each_decision_has_a_reason():
    assert words_of(FACTS) == ["hp.image_size=[360]"]
    lines = [decision.line for decision in decide(FACTS, ())]
    assert len(lines) == 6 and all("(" in line and "\n" not in line for line in lines)


@pytest.mark.parametrize("given", ["hp.image_size", "augment.vflip", "augment", "sampling"])
def test_nothing_is_decided_about_keys_of_the_user(given):
    facts = replace(FACTS, halves=0.0, shares={"a": 0.999, "b": 0.001})
    assert all(not word.startswith(given) for word in words_of(facts, {given}))


def test_a_larger_image_is_tried_only_where_there_are_more_pixels():
    assert larger_side(FACTS) == [] and base_side(FACTS) == 360
    assert larger_side(replace(FACTS, size=(720, 1280))) == [540]
    assert [item["hp.image_size"] for item in items(["a", "b"], [[360], []])] == [[360], [360]]


def candidates(*least: float) -> list[Candidate]:
    names = ["lite", "swift", "other"]
    return [
        Candidate({"template": names[i], "hp.image_size": [360]}, 0.2, seconds, 3 * seconds)
        for i, seconds in enumerate(least)
    ]


@pytest.mark.parametrize("minutes", [1, 5, 15, 60, 600])
@pytest.mark.parametrize("processors", [1, 2, 8, 64])
def test_the_search_takes_its_share_and_leaves_the_rest(minutes, processors):
    kept, plan = share_time(candidates(5.0, 3.0), minutes, 10.0, processors)
    rounds = -(-plan.trials // plan.workers)
    search = rounds * plan.trial_minutes
    assert plan.trials >= len(kept) and plan.workers * plan.threads <= processors
    assert search <= 0.62 * minutes  # a last round may be incomplete
    if len(kept) > 1:
        assert plan.trial_minutes * 60 * 0.85 >= 15.0


def test_a_candidate_that_is_too_slow_is_left_out_and_the_only_one_gets_all_the_time():
    kept, plan = share_time(candidates(50.0, 3.0), 1.0, 5.0, 1)
    assert [c.item["template"] for c in kept] == ["swift"]
    assert plan.trials == 1 and plan.trial_minutes > 0.6


def test_trials_that_tell_nothing_are_not_run_and_the_pretrained_one_gets_the_time():
    kept, plan = share_time(candidates(10.0, 9.0), 2.0, 10.0, 1)
    assert [c.item["template"] for c in kept] == ["lite"] and plan.trials == 1
    kept, _ = share_time(candidates(100.0, 9.0), 2.0, 10.0, 1)
    assert [c.item["template"] for c in kept] == ["swift"]  # no epoch of lite fits


@pytest.mark.parametrize("minutes", [10.0, 60.0])
def test_epochs_that_are_longer_than_a_trial_make_one_run(minutes):
    slow = [
        Candidate({"template": "lite"}, 1.0, 25 * minutes, 75 * minutes),
        Candidate({"template": "swift"}, 1.0, 10 * minutes, 30 * minutes),
    ]
    _, plan = share_time(slow, minutes, 5.0, 2)
    assert plan.trials == 1 and plan.trial_minutes < minutes


def test_minutes_too_few_for_one_epoch_are_refused_with_minutes_that_would_do():
    with pytest.raises(ConfigError, match="too few for one epoch") as refusal:
        share_time(candidates(100.0), 1.0, 5.0, 2)
    enough = float(str(refusal.value).partition("minutes=")[2].partition("minutes=")[2].split()[0])
    assert share_time(candidates(100.0), enough, 5.0, 2)


@pytest.mark.parametrize(("trials", "words"), [(2, []), (6, []), (6, ["hp.per_item_lrate=2e-4"])])
def test_the_sweep_file_holds_the_portfolio_and_a_space_that_can_be_searched(
    trials, words, tmp_path
):
    names = ["fpn", "swift"]
    portfolio = [Candidate({"template": n, "hp.image_size": [96]}, 0.1, 1.0, 3.0) for n in names]
    plan = TimePlan(trials, 2, 1, 1.0, 5.0)
    content = sweep_content("auto-street", ["dataset=street", "hp=fast", *words], portfolio, plan)
    path = tmp_path / "auto-street.yaml"
    write_sweep_file(path, content, decide(FACTS, ()), 5.0)
    spec = load_spec(str(path))
    space = build_space(spec)
    assert spec.name == "auto-street" and space.templates == tuple(names)
    first = [space.overrides_of(values) for values in space.enqueued]
    assert ["template=fpn" in first[0], "template=swift" in first[1]] == [True, True]
    assert spec.n_trials == (2 if words else trials) and "trainer.minutes=1.0" in first[0]
    text = path.read_text()
    assert text.startswith("# Question: ") and "#   image size: shorter side 360 px (" in text
