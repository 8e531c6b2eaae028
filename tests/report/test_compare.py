"""The report: it is self-contained, shows the evidence's numbers, and escapes hostile names."""

import csv
import json
import re

import numpy as np
import pytest

from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError, StorageError
from segtune.report.compare import compare
from segtune.tracking.datasets import record_read
from segtune.tracking.store import open_store
from tests.report.fakes import EVIL, fake_run, matrices


@pytest.fixture
def store(tmp_path):
    return open_store(TrackingConfig(root=str(tmp_path / "store")))


def miou(counts):
    total = counts.sum(0)
    hit = np.diag(total)
    return float((hit / (total.sum(0) + total.sum(1) - hit)).mean())


def test_the_page_needs_no_network_and_shows_hostile_names_as_text(store):
    fake_run(store, EVIL + "1", 0.5, sweep="s")
    fake_run(store, "b2", 0.7, sweep="s")
    page = compare(store, ["s"]).html.read_text()
    body = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert EVIL not in page.replace("<\\/script", "") and "&lt;script&gt;" in body
    assert not re.search(r"""(src|href)=["'](https?:)?//""", body)


def test_the_numbers_are_those_of_the_evidence_in_json_csv_and_card(store):
    counts = matrices(0.8, seed=5)
    best = fake_run(store, "a1", sweep="s", counts=counts)
    fake_run(store, "b2", 0.6, sweep="s")
    fake_run(store, "c3", 0.3, state="pruned", sweep="s")
    report = compare(store, ["s"])
    facts = json.loads(report.json.read_text())
    first = facts["candidates"][0]
    assert first["runs"][0]["run"] == best == report.best.first.id and first["trials"] == 3
    assert first["miou"] == pytest.approx(miou(counts), abs=1e-12)
    assert first["interval"]["low"] < first["miou"] < first["interval"]["high"]
    assert [o["state"] for o in facts["others"]] == ["pruned"]
    rows = list(csv.DictReader(report.csv.read_text().splitlines()))
    assert float(rows[0]["miou"]) == first["miou"] and len(rows) == 2
    card = (report.html.parent / "README.md").read_text()
    assert f"mIoU **{100 * first['miou']:.1f}**" in card
    assert f"value: {round(first['miou'], 6)}" in card


def test_two_runs_that_differ_by_noise_alone_are_not_distinguishable(store):
    one, two = fake_run(store, "a1", 0.80, seed=1), fake_run(store, "b2", 0.80, seed=2)
    verdict = compare(store, [one, two]).facts["verdict"]
    interval = r"[+-]\d\.\d points of mIoU \[-\d\.\d, \d\.\d\]"
    evidence = rf"{interval}, p 0\.\d+, P\(b2 > a1\) 0\.\d\d; 120 val images, 1 seed\."
    pattern = rf"b2 is not distinguishable from a1 on these images: {evidence}"
    assert re.fullmatch(pattern, verdict[0])
    assert "Another seed may change" in verdict[-1]


def test_the_first_of_two_runs_is_the_baseline_unless_another_is_named(store):
    one, two = fake_run(store, "a1", 0.70), fake_run(store, "b2", 0.75)
    verdict = compare(store, [one, two]).facts["verdict"]
    assert verdict[0].startswith("b2 is better than a1 on these images: +")
    verdict = compare(store, [one, two], baseline="b2").facts["verdict"]
    assert verdict[0].startswith("a1 is worse than b2 on these images: -")
    with pytest.raises(ConfigError, match="no such candidate"):
        compare(store, [one, two], baseline="zz")


@pytest.mark.parametrize(
    ("split", "tags", "chosen_here"),
    [
        ("val", {"segtune.kind": "trial", "segtune.sweep": "s"}, True),
        ("test", {"segtune.kind": "trial", "segtune.sweep": "s"}, False),
        ("val", {"segtune.kind": "confirm", "segtune.confirms": "s"}, False),
    ],
    ids=["trials on val", "trials on test", "retrained with new seeds"],
)
def test_only_the_val_figures_of_trials_are_called_too_high(store, split, tags, chosen_here):
    for name in ("t1", "t2"):
        fake_run(store, name, sweep="s", split=None)
    ids = [fake_run(store, name, 0.7, split=split, tags=tags) for name in ("a1", "b2")]
    verdict = " ".join(compare(store, ids, split=split).facts["verdict"])
    assert ("was chosen on these images" in verdict) == chosen_here


def test_runs_that_differ_only_in_their_seed_are_one_candidate(store):
    same = {"hp.width": 8}
    ids = [fake_run(store, f"w-{n}", 0.7, seed=n, params=same) for n in range(3)]
    ids.append(fake_run(store, "other", 0.6))
    facts = compare(store, ids).facts
    best = facts["candidates"][0]
    assert len(best["runs"]) == 3 and best["seed_deviation"] > 0 and len(facts["candidates"]) == 2
    assert best["miou"] == pytest.approx(np.mean([r["miou"] for r in best["runs"]]))
    assert best["interval"]["covers"] == "seeds and images"
    assert facts["varied"]["seed"] == "varied (0, 1, 2)"


@pytest.mark.parametrize(
    ("gap", "relation"), [(0.0, "not distinguishable from"), (0.1, "worse than")]
)
def test_with_several_seeds_the_verdict_is_about_seeds_and_images(store, gap, relation):
    ids = []
    for name, quality, width in (("a1", 0.8, 8), ("b2", 0.8 - gap, 9)):
        ids += [
            fake_run(store, f"{name}-{n}", quality + 0.01 * n, seed=n, params={"hp.width": width})
            for n in range(3)
        ]
    facts = compare(store, ids, baseline="a1-0").facts
    verdict = " ".join(facts["verdict"])
    assert f"b2-0 is {relation} a1-0: " in verdict and "on these images" not in verdict
    assert "; 120 val images, 3 seeds." in verdict and "Another seed" not in verdict
    (row,) = [c["difference"] for c in facts["candidates"] if c["difference"]]
    assert row["covers"] == "seeds and images"


def test_a_plan_names_the_seeds_and_images_that_show_a_difference(store):
    ids = [
        fake_run(store, f"{name}-{n}", 0.8 + 0.01 * n, seed=n, params={"hp.width": width})
        for name, width in (("a1", 8), ("b2", 9))
        for n in range(3)
    ]
    plan = compare(store, ids, plan=1.0).facts["verdict"][-1]
    assert re.search(r"\d+ more seeds of each would show a difference of 1\.0 points", plan)
    single = compare(store, [ids[0], ids[3]], plan=1.0).facts["verdict"][-1]
    assert re.search(r"\d+ val images \(now 120\) would show .* between these runs", single)
    assert "variance between seeds is unknown" in single


@pytest.mark.parametrize("plan", [0.0, -1.0, 101.0])
def test_a_plan_that_cannot_be_made_is_an_error(store, plan):
    ids = [fake_run(store, "a1", 0.7), fake_run(store, "b2", 0.75)]
    with pytest.raises(ConfigError, match="in points of mIoU"):
        compare(store, ids, plan=plan)
    with pytest.raises(ConfigError, match="needs two candidates"):
        compare(store, ids[:1], plan=1.0)


def test_frames_of_one_video_give_no_interval_and_the_report_says_so(store):
    groups = ("v",) * 120
    ids = [fake_run(store, "a1", 0.7, groups=groups), fake_run(store, "b2", 0.8, groups=groups)]
    facts = compare(store, ids).facts
    assert facts["method"] is None and "No interval" in facts["verdict"][0]
    assert any("one group" in w for w in facts["warnings"])


def test_each_reason_for_too_high_figures_is_a_warning(store):
    counts = matrices(0.7, number=60)
    counts[:, 2] = counts[:, :, 2] = 0
    fake_run(store, "a1", sweep="s", counts=counts, duplicates=("img3",))
    fake_run(store, "b2", sweep="s", state="failed")
    record_read(store, "d", "test", "g" * 64, "early", "look")
    one = fake_run(store, "c3", counts=counts, duplicates=("img3",))
    warnings = " ".join(compare(store, ["s", one]).facts["warnings"])
    for words in (
        "also in the train split",
        "no pixel of sky",
        "60 images are few",
        "one seed: all",
        "Reads of the test split before the training of all candidates had ended: 1",
        "from 2 trials, c3 from 1",
    ):
        assert words in warnings, words


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"classes": ("road", EVIL, "sea")}, "different class tables"),
        ({"fingerprint": "e" * 64}, "different splits"),
        ({"split": None}, "no evidence on the val split.*segtune evaluate"),
        ({"state": "failed"}, "is failed and has no segmenter"),
        ({"state": "running"}, "is running and has no segmenter"),
    ],
    ids=["classes", "split", "no evidence", "failed", "unfinished"],
)
def test_unlike_runs_are_refused_and_nothing_is_written(store, other, message):
    ids = [fake_run(store, "a1", 0.4), fake_run(store, "b2", 0.5, **other)]
    with pytest.raises(ConfigError, match=message):
        compare(store, ids)
    assert not (store.root / "reports").exists()


def test_a_folder_that_cannot_be_written_is_an_error(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="output=DIR"):
        compare(store, [fake_run(store, "a1")], tmp_path / "file" / "report")


@pytest.mark.parametrize(
    "names", [[], ["nowhere"], ["s:confirmed"], ["it's"], ["it's:confirmed"], ["'\""]]
)
def test_a_name_without_runs_is_an_error(store, names):
    with pytest.raises(ConfigError):
        compare(store, names)


def test_a_sweep_without_a_finished_run_gives_a_page_that_says_so(store):
    fake_run(store, "a1", 0.4, state="failed", sweep="s")
    report = compare(store, ["s"])
    assert report.best is None and "No run has finished yet" in report.html.read_text()


def test_the_hubs_own_reader_reads_the_card(store):
    from huggingface_hub import ModelCard

    report = compare(store, [fake_run(store, "a|<b>1", 0.8)])
    card = ModelCard.load(report.html.parent / "README.md")
    result = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert result["mean_iou"] == pytest.approx(report.best.miou, abs=1e-6)
    assert card.data.model_name == "a|<b>1"
    assert "<b>" not in card.text and "CC0" in card.text and "segtune train seed=0" in card.text
