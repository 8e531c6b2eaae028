"""The pages in a real browser: narrow and wide, light and dark, by keyboard, live, silent."""

import threading
import time

import pytest

from segtune.config.schema import TrackingConfig
from segtune.serving.listening import listen, server_of
from segtune.serving.ui.app import create_app
from segtune.sweeping.records import load_study
from segtune.tracking.store import open_for_reading
from tests.pages.browser import needs_browser
from tests.pages.chromium import chromium
from tests.pages.reading import (
    WINDOWS,
    assert_fits_and_is_labelled,
    assert_keys_reach_everything,
    assert_no_serious_fault,
    assert_silent,
    focus_on,
)
from tests.serving.ui_store import finished_trial, make_store

PATHS = ["/sweeps/s", "/sweeps", "/runs", "/runs/RUN", "/compare", "/compare?name=s"]
PATHS += ["/datasets", "/datasets/d", "/runs/RUN/samples/val", "/registry", "/nothing"]
DRAWN = {"/sweeps/s": 4, "/runs/RUN": 2}  # figures that a script draws
IN_REPORT = "document.querySelector('iframe')?.contentDocument?.querySelector('%s') != null"
pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The store, its runs, and the address at which its pages are served."""
    store, runs = make_store(tmp_path_factory.mktemp("ui") / "store")
    app = create_app(open_for_reading(TrackingConfig(root=str(store.root))))
    listening, address = listen("127.0.0.1", 0)
    server = server_of(app, 1)
    thread = threading.Thread(target=server.run, args=[[listening]], daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield store, runs, address
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(site, tmp_path):
    with chromium(tmp_path) as opened:
        yield opened
        assert_silent(opened, site[2])


@pytest.mark.ci
@pytest.mark.parametrize(("width", "is_dark"), WINDOWS)
def test_every_page_fits_and_is_labelled_and_reached_by_keys(page, site, width, is_dark):
    _, runs, address = site
    for path in PATHS:
        page.open(address + path.replace("RUN", runs[0]), width, 900, is_dark)
        if path.startswith("/compare?"):
            page.until(IN_REPORT % "h1")
        figures = "document.querySelectorAll('.js-plotly-plot').length"
        page.until(f"{figures} === {DRAWN.get(path, 0)}")
        assert_fits_and_is_labelled(page)
        assert_keys_reach_everything(page)
        if path == "/nothing":  # the browser notes the status 404
            page.messages.clear()


@pytest.mark.ci
@pytest.mark.parametrize(("width", "is_dark"), WINDOWS)
def test_axe_finds_nothing_serious(page, site, width, is_dark):
    _, runs, address = site
    for path in PATHS[:-1]:
        page.open(address + path.replace("RUN", runs[0]), width, 900, is_dark)
        figures = "document.querySelectorAll('.js-plotly-plot').length"
        page.until(f"{figures} === {DRAWN.get(path, 0)}")
        assert_no_serious_fault(page)


@pytest.mark.ci
def test_a_sweep_is_followed(page, site):
    store, runs, address = site
    page.open(f"{address}/sweeps/s")
    page.until("document.querySelectorAll('.js-plotly-plot').length === 4")
    report_epoch(store.root / "sweeps" / "s", 0.75)
    started = time.monotonic()
    page.until("document.querySelector('#trial-3').textContent.includes('0.7500')")
    assert time.monotonic() - started < 2.5  # the page polls in a busy test: the aim is 2 s
    assert page.run("document.querySelectorAll('#trial-3 td')[3].textContent") == "2/2"
    assert page.run("document.querySelectorAll('#curves polyline').length") == 4
    add_trial(store.root / "sweeps" / "s", runs[0])
    page.until("document.querySelector('#summary').textContent.includes('4 finished')")
    page.resize(900)
    page.until("new Promise((done) => setTimeout(() => done(true), 500))")  # it is redrawn
    assert_fits_and_is_labelled(page)


def test_runs_are_chosen_and_compared_by_keys_alone(page, site):
    _, runs, address = site
    page.open(f"{address}/runs")
    for run in runs[:2]:
        focus_on(page, f"input[value='{run}']")
        page.press(" ", " ")
    focus_on(page, "form button")
    page.press("Enter", "\r")
    page.until("location.pathname === '/compare'")
    page.until(IN_REPORT % "#candidates")
    assert page.run("document.querySelector('input[name=name]').value.split(' ')") == runs[:2]


def report_epoch(folder, value):
    """Report an epoch of the running trial, as a worker in another process does."""
    study = load_study(folder, "s")
    study._storage.set_trial_intermediate_value(study.get_trials()[3]._trial_id, 1, value)


def add_trial(folder, run):
    """Add a finished trial."""
    load_study(folder, "s").add_trial(finished_trial(4, run))
