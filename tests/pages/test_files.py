"""The pages that are files, in a real browser: report, check, and the ranking of labels."""

import pytest

import segtune
from segtune.config.compose import compose
from segtune.data.sources import open_source
from segtune.evaluation.label_issues import LabelIssue
from segtune.report.check_page import write_ranking
from segtune.report.compare import compare
from tests.conftest import SCENES
from tests.pages.browser import needs_browser
from tests.pages.chromium import chromium
from tests.pages.reading import (
    WINDOWS,
    assert_fits_and_is_labelled,
    assert_keys_reach_everything,
    assert_no_serious_fault,
    assert_silent,
)
from tests.serving.ui_store import make_store

FILES = {"report": 10, "check": 2, "labels": 0}  # each with its number of figures
pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.ci, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The page of each kind."""
    folder = tmp_path_factory.mktemp("files")
    store, _ = make_store(folder / "store")
    check = segtune.check(*SCENES, output=folder / "check")
    source = open_source(compose(SCENES).config.dataset, print)
    pair = source.pairs("train")[0]
    facts = ("train", 0.3, tuple(source.classes.names[:2]), True, "run", pair.image, pair.mask)
    labels = write_ranking([LabelIssue(pair.name, *facts)], source, folder / "labels")
    report = compare(store, ["s"]).html
    return {"report": report, "check": check.page, "labels": labels}


@pytest.mark.parametrize(("width", "is_dark"), WINDOWS)
@pytest.mark.parametrize("kind", FILES)
def test_a_page_fits_is_reached_by_keys_and_axe_finds_nothing_serious(
    files, tmp_path, kind, width, is_dark
):
    address = files[kind].as_uri()
    with chromium(tmp_path) as page:
        page.open(address, width, 900, is_dark)
        page.until(f"document.querySelectorAll('.js-plotly-plot').length === {FILES[kind]}")
        assert_fits_and_is_labelled(page)
        assert_keys_reach_everything(page)
        page.resize(width + 200)
        page.until("new Promise((done) => setTimeout(() => done(true), 300))")  # it is redrawn
        assert_fits_and_is_labelled(page)
        assert_silent(page, address)
        assert_no_serious_fault(page)
