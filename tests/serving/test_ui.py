"""The pages of a store: they show what is in it, escape its names, and change nothing in it."""

import asyncio
import hashlib
import io
import json
import shutil
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from segtune.config.conf_files import load_gate
from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError
from segtune.serving.ui import events
from segtune.serving.ui.app import create_app
from segtune.serving.ui.events import Feed, changes
from segtune.serving.ui.settings import UiSettings
from segtune.sweeping.engine import lease as lease_module
from segtune.sweeping.engine.records import LEASE
from segtune.sweeping.live import LiveSweep
from segtune.tracking.promotion import promote
from segtune.tracking.runs import get_run
from segtune.tracking.store import open_for_reading, open_store
from tests.conftest import OPEN_GATE
from tests.report.fakes import EVIL
from tests.serving.ui_store import make_store, make_study

LOCAL = {"base_url": "http://localhost"}
pytestmark = pytest.mark.filterwarnings("ignore:.*httpx.*:DeprecationWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("ui") / "a store")


@pytest.fixture(scope="module")
def pages(made):
    store = open_for_reading(TrackingConfig(root=str(made[0].root)))
    with TestClient(create_app(store), **LOCAL) as client:
        yield client


def content_of(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


PAGES = [
    *("/sweeps", "/sweeps/s", "/runs", "/runs/RUN", "/compare?name=s", "/datasets", "/datasets/d"),
    *("/registry", "/runs/RUN/samples/val", f"/runs/RUN/samples/val?of={quote(EVIL)}&sort=best"),
]
FILES = ["/sweeps/s/figures", "/runs/RUN/figures", "/runs/RUN/samples/val/1/error"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_escapes_names_labels_its_parts_and_marks_where_it_is(path, made, pages):
    answer = pages.get(path.replace("RUN", made[1][0]))
    assert answer.status_code == 200
    text = answer.text
    assert EVIL not in text.replace("\\u003c", "")
    assert text.count("<h1>") == 1 and 'aria-current="page"' in text
    assert "script-src" not in answer.headers["content-security-policy"]  # only its own files
    assert text.count("<script") == text.count('<script src="/static/') + text.count(
        '<script type="application/json"'
    )


def test_pages_change_no_byte_of_the_store(made, pages):
    before = content_of(made[0].root)
    for path in [*PAGES, *FILES, "/compare/report?name=s"]:
        assert pages.get(path.replace("RUN", made[1][0])).status_code == 200, path
    assert content_of(made[0].root) == before


def test_a_sweep_shows_its_trials_workers_front_and_commands(made, pages):
    text = pages.get("/sweeps/s").text
    assert "<strong>3 of 5</strong> done: 3 finished" in text and "maximize val/miou" in text
    assert "trial 2</a> with <strong>0.5667" in text
    for run in made[1]:
        assert f'href="/runs/{run}"' in text
    assert "alive" in text  # the lease is this process's
    assert "optuna-dashboard" in text and "mlflow ui" in text
    figures = {figure["id"] for figure in pages.get("/sweeps/s/figures").json()}
    assert figures == {"history", "parallel", "slices", "pareto"}


def test_an_event_holds_only_what_changed(made):
    sweep = LiveSweep(made[0].root / "sweeps" / "s")
    before = sweep.read()
    assert set(changes(None, before)["parts"]) == {"trials", "summary", "workers"}
    assert changes(before, sweep.read()) == {}
    after = {**before, "trials": [*before["trials"][:3], {**before["trials"][3], "epoch": 2}]}
    change = changes(before, after)
    assert set(change["parts"]) == {"trial-3", "summary", "workers"}
    assert [line["number"] for line in change["curves"]] == [3]


def test_a_follower_hears_of_an_epoch_within_two_seconds(tmp_path):
    folder = tmp_path / "s"
    study = make_study(folder, ["run"])
    running = study.get_trials()[1]

    async def follow():
        stream = Feed(LiveSweep(folder)).follow()
        await anext(stream)
        await asyncio.sleep(0.1)
        study._storage.set_trial_intermediate_value(running._trial_id, 1, 0.75)
        async with asyncio.timeout(2):
            event = await anext(stream)
        await stream.aclose()
        return event

    change = json.loads(asyncio.run(follow()).partition("data: ")[2])
    assert change["curves"] == [{"number": 1, "state": "running", "curve": [[0, 0.2], [1, 0.75]]}]
    assert "0.7500" in change["parts"]["trial-1"]


def test_a_follower_hears_that_the_last_worker_died(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "_UNTOUCHED", 0.1)
    study = make_study(tmp_path / "s", ["run"])
    lease = study.get_trials()[1].user_attrs[LEASE]

    async def follow():
        stream = Feed(LiveSweep(tmp_path / "s")).follow()
        before = await anext(stream)
        monkeypatch.setattr(lease_module, "_born", lambda pid: "another time")
        async with asyncio.timeout(5):  # nobody writes to the study
            return before, await anext(stream)

    before, after = (json.loads(event.partition("data: ")[2]) for event in asyncio.run(follow()))
    assert lease["worker"] in before["parts"]["workers"] and "alive" in before["parts"]["workers"]
    assert "interrupted" in after["parts"]["trial-1"] and "ended" in after["parts"]["workers"]
    assert "No worker is left" in after["parts"]["summary"]
    assert "segtune sweep s" in after["parts"]["summary"]


def test_a_slow_page_gets_the_newest_state_alone(made):
    states = [LiveSweep(made[0].root / "sweeps" / "s").read()]
    for epoch in range(1, 1000):
        row = {**states[0]["trials"][3], "epoch": epoch}
        states.append({**states[0], "trials": [*states[0]["trials"][:3], row]})

    async def follow():
        feed = Feed(None)
        feed._watch = lambda: asyncio.sleep(0)
        stream = feed.follow()
        first = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        for state in states[:1]:
            await feed._take(state)
        await first
        for state in states[1:]:
            await feed._take(state)
        return await anext(stream)

    change = json.loads(asyncio.run(follow()).partition("data: ")[2])
    assert set(change["parts"]) == {"trial-3", "summary", "workers"}
    assert "<td>999/2</td>" in change["parts"]["trial-3"]


def test_a_sweep_that_was_started_anew_replaces_the_old_one_of_its_name(tmp_path):
    make_study(tmp_path / "s", ["a", "b"])
    sweep = LiveSweep(tmp_path / "s")
    before = sweep.read()
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(ConfigError, match="never started"):
        sweep.read()
    make_study(tmp_path / "s", ["c", "d", "e"])
    after = sweep.read()
    assert [row["run"] for row in after["trials"]] == ["c", "d", "e", None]
    assert changes(before, after)["is_whole"]


def test_a_run_shows_config_curves_classes_and_links(made, pages):
    text = pages.get(f"/runs/{made[1][2]}").text
    assert "hp.width" in text and "licence: CC0" in text and 'href="/sweeps/s"' in text
    figures = pages.get(f"/runs/{made[1][2]}/figures").json()
    assert [figure["id"] for figure in figures] == ["val-miou", "train-loss"]
    assert "0.5667" in figures[0]["alternative"]


def test_a_dataset_leads_to_the_samples_of_its_runs_and_to_its_check(made, pages):
    page = made[0].root / "checks" / "d" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<h1>checked</h1>")
    text = pages.get("/datasets/d").text
    for run in made[1]:
        assert f'href="/runs/{run}/samples/val"' in text
    assert "Page of the last check" in text
    assert "checked" in pages.get("/datasets/d/pages/check").text
    shutil.rmtree(page.parent)


def test_a_comparison_is_the_report_and_its_faults_stay_in_the_frame(made, pages):
    names = "&".join(f"name={run}" for run in made[1][:2])
    page = pages.get(f"/compare?{names}").text
    assert f"segtune compare {made[1][0]} {made[1][1]}" in page and "<iframe" in page
    report = pages.get(f"/compare/report?{names}")
    assert "points of mIoU" in report.text and EVIL not in report.text.replace("\\u003c", "<!")
    wrong = pages.get("/compare/report?name=nothing")
    assert wrong.status_code == 422 and "nothing" in wrong.text


def test_the_registry_states_decisions_and_the_rollback(store_root, tiny_run, tmp_path):
    shutil.copytree(store_root, tmp_path / "copy")
    store = open_store(TrackingConfig(root=str(tmp_path / "copy")))
    promote(store, get_run(store, tiny_run.run_id), "fast roads", load_gate(OPEN_GATE))
    with TestClient(create_app(store), **LOCAL) as client:
        text = client.get("/registry").text
        assert "version 1 is the first champion" in text
        assert "passed: <code>provenance</code>" in text
        assert "rollback &#39;model=fast roads&#39;" in text
        run = client.get(f"/runs/{tiny_run.run_id}").text
        assert "predict" in run and "evaluate" in run
        overlay = client.get(f"/runs/{tiny_run.run_id}/overlays/0")
        assert overlay.headers["content-type"] == "image/png"
        assert client.get(f"/runs/{tiny_run.run_id}/overlays/99").status_code == 404


def test_samples_filter_by_class_and_sort_by_iou(made, pages):
    path = f"/runs/{made[1][0]}/samples/val"
    scores = {}
    for sort in ("worst", "best"):
        text = pages.get(f"{path}?of=road&sort={sort}").text
        scores[sort] = [float(part[:6]) for part in text.split("IoU of road ")[1:]]
    assert len(scores["worst"]) == 6 and scores["worst"] == sorted(scores["worst"])
    assert scores["best"] == scores["worst"][::-1]
    picture = Image.open(io.BytesIO(pages.get(f"{path}/1/truth").content))
    assert np.array(picture).shape[2] == 3
    assert text.count("disputed of img1") == 1 and "disputed of img2" not in text
    red = np.array(Image.open(io.BytesIO(pages.get(f"{path}/1/disputed").content))) == (214, 39, 40)
    assert 0 < red.all(2).sum() < red[..., 0].size
    for wrong in ("/2/disputed", "?of=nothing", "?sort=up", "?page=0", "/1/nothing", "/99/truth"):
        assert pages.get(path + wrong).status_code == 404


@pytest.mark.parametrize("path", ["/sweeps/none", "/sweeps/..%2f..", "/nothing", f"/sweeps/{EVIL}"])
def test_an_unknown_name_is_answered_with_a_page(path, pages):
    answer = pages.get(path)
    assert answer.status_code == 404 and "<h1>" in answer.text and EVIL not in answer.text


def test_only_this_machine_or_the_token_opens_the_pages(made):
    app = create_app(made[0], token="s3cret")
    with TestClient(app, base_url="http://example.org") as client:
        assert client.get("/sweeps").status_code == 401
        assert client.get("/sweeps", headers={"authorization": "Bearer s3cret"}).status_code == 200
        assert client.post("/enter", content="token=wrong").status_code == 401
        assert client.get("/sweeps").status_code == 401
        entered = client.post("/enter", content="token=s3cret")
        assert entered.status_code == 200 and "Sweeps" in entered.text
        assert "s3cret" not in str(client.cookies)
        assert client.get("/sweeps").status_code == 200
    with TestClient(create_app(made[0]), base_url="http://evil.example") as client:
        assert client.get("/sweeps").status_code == 403
    with pytest.raises(ConfigError, match="SEGTUNE_TOKEN"):
        UiSettings(host="0.0.0.0")


@pytest.mark.parametrize(
    ("words", "message"),
    [({"root": "none"}, "no store in"), ({"experiment": "other"}, "did you mean|known")],
)
def test_what_is_not_there_is_refused_and_not_made(words, message, made, tmp_path):
    values = {"root": str(made[0].root), **words}
    with pytest.raises(ConfigError, match=message):
        open_for_reading(TrackingConfig(**values))
    assert not (tmp_path / "none").exists()
