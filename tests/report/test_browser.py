"""The page opens from disk in a real browser: no request, no error, escaped names, captions."""

import re
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution

from segtune.config.schema import TrackingConfig
from segtune.report.compare import compare
from segtune.sweeping.engine.storage import open_storage
from segtune.tracking.store import open_store
from tests.pages.browser import browse, needs_browser, probe
from tests.report.fakes import EVIL, fake_run

pytestmark = [needs_browser, pytest.mark.timeout(240)]
FIGURES = {
    "miou",
    "classes",
    "differences",
    "confusion",
    "reliability",
    "pareto",
    "curves",
    "history",
    "importance",
    "parallel",
    "slices",
}
DRAWN = f"""
while (document.querySelectorAll('.js-plotly-plot').length < {len(FIGURES)}) {{
  await new Promise(done => setTimeout(done, 50));
}}"""
HELPERS = """
const byId = id => document.getElementById(id);
const rows = id => [...byId(id).tBodies[0].rows].filter(row => !row.hidden)
  .map(row => [...row.cells].map(cell => cell.textContent));
const choose = (id, value) => { byId(id).value = value;
  byId(id).dispatchEvent(new Event('change')); };
const tick = key => [...document.querySelectorAll('#group-keys input')]
  .find(box => box.value === key).click();
const settle = () => new Promise(done => setTimeout(done, 800));
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    store = open_store(TrackingConfig(root=str(tmp_path_factory.mktemp("report") / "a store")))
    storage = open_storage(store.root / "sweeps" / "s", None, "s").optuna
    study = optuna.create_study(study_name="s", direction="maximize", storage=storage)
    space = {
        f"loss {EVIL}": CategoricalDistribution([EVIL, "ce"]),
        "hp.width": IntDistribution(0, 9),
    }
    for n in range(12):
        width, seed = divmod(n, 2)  # two seeds of each of six candidates
        params = {"loss": [EVIL, "ce"][width % 2], "hp.width": width}
        fake_run(store, f"{EVIL}{n}", 0.5 + n / 30, sweep="s", params=params, seed=seed, number=12)
        params = {f"loss {EVIL}": [EVIL, "ce"][width % 2], "hp.width": width}
        study.add_trial(
            optuna.trial.create_trial(value=0.5 + n / 30, params=params, distributions=space)
        )
    return compare(store, ["s"])


@pytest.fixture(scope="module")
def page(report):
    return report.html.read_text()


# 500: a headless chromium has no narrower window
@pytest.mark.parametrize(
    "width", [pytest.param(1440, marks=[pytest.mark.slow, pytest.mark.ci]), 500]
)
def test_it_opens_from_disk_without_errors_requests_or_foreign_scripts(page, width):
    script = f"""{DRAWN}
    return {{width: document.documentElement.scrollWidth, inner: innerWidth,
      drawn: [...document.querySelectorAll('.js-plotly-plot')].map(plot => plot.id),
      links: [...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)),
      unlabelled: [...document.querySelectorAll('input, select')]
        .filter(control => !control.labels.length).length,
      text: document.body.innerText, scripts: document.querySelectorAll('td script').length,
      requests: performance.getEntriesByType('resource').map(entry => entry.name)
        .filter(name => !/^(data|blob):/.test(name))}}"""
    result = probe(page, script, width=width)
    assert result["requests"] == [] and result["width"] <= result["inner"]
    assert set(result["drawn"]) == FIGURES
    assert result["links"] == [] and result["unlabelled"] == 0
    assert result["scripts"] == 0 and EVIL in result["text"]


def test_every_figure_has_a_title_with_its_unit_and_a_caption(page):
    titles = dict(re.findall(r'<h2 id="(\w+)-title">([^<]+)</h2>', page))
    assert set(titles) == FIGURES
    unitless = {"parallel", "pareto", "importance"}  # their axes have several, or name it
    assert all(
        re.search(r"\((points|%|share)", title)
        for key, title in titles.items()
        if key not in unitless
    )
    for key in FIGURES:
        words = re.search(rf'<figcaption id="{key}-words">([^<]+)', page)
        assert words and len(words[1]) > 15


def test_searched_parameters_and_links_to_runs_come_before_other_columns(page, report):
    body = re.search(r'<table id="candidates".*?</table>', page, re.S)[0]
    heads = re.findall(r"<th(?: [^>]*)?>(.*?)</th>", body)
    assert heads[:3] == ["candidate", "run", "mIoU"] and heads.index("hp.width") == 7
    run = report.facts["candidates"][0]["runs"][0]["run"]
    link = re.search(rf'<a href="(file://[^"]+)">{run[:8]}</a>', body)[1]
    assert (Path(link.removeprefix("file://").replace("%20", " ")) / "config.yaml").exists()


@pytest.mark.slow
def test_the_page_prints_to_pdf(report):
    path = Path("report.pdf").absolute()
    browse(report.html, f"--print-to-pdf={path}")
    assert path.read_bytes()[:5] == b"%PDF-" and path.stat().st_size > 50_000


# the requests are those of other tools' users, which those tools have not answered
@pytest.mark.slow
@pytest.mark.ci
def test_runs_are_grouped_by_several_parameters(page):
    """Request wandb/wandb #2680; the deviation and error in the table: #5634."""
    script = f"""{HELPERS}
    tick('hp.width'); tick('loss');
    const two = rows('groups');
    tick('hp.width');
    const one = rows('groups');
    choose('group-spread', 'deviation');
    const deviation = rows('groups');
    byId('group-all').click();
    const keys = [...document.querySelectorAll('#group-keys input:checked')].map(b => b.value);
    byId('group-none').click();
    return {{two, one, deviation, keys, hidden: byId('groups-box').hidden}}"""
    result = probe(page, script)
    assert len(result["two"]) == 6 and len(result["one"]) == 2
    assert all(row[2] == "2" and "±" in row[3] for row in result["two"])
    assert all(row[1] == "6" for row in result["one"])
    error, deviation = (float(result[k][0][2].split("±")[1]) for k in ("one", "deviation"))
    assert deviation == pytest.approx(error * 6**0.5, rel=0.02)
    assert result["keys"] == ["hp.width", "loss"] and result["hidden"]


@pytest.mark.slow
def test_groups_have_error_bars_and_their_legend_has_error_and_count(page):
    """Requests mlflow/mlflow #4277 and wandb/wandb #8500."""
    script = f"""{HELPERS}{DRAWN}
    tick('hp.width');
    const bars = byId('groups-plot').data[0];
    const legend = byId('curves').data.map(trace => trace.name);
    const curve = byId('curves').data[0].error_y.array;
    choose('curve-metric', 'train/loss');
    const loss = byId('curves').data[0].y;
    byId('group-none').click();
    return {{bars: bars.error_x.array, labels: bars.y, legend, curve, loss,
      single: byId('curves').data.length}}"""
    result = probe(page, script)
    assert len(result["bars"]) == 6 and min(result["bars"]) > 0
    assert all("(n=2)" in label for label in result["labels"])
    assert all(re.search(r"width=\d: [\d.]+ ± [\d.]+ \(n=2\)", name) for name in result["legend"])
    assert min(result["curve"]) > 0 and result["single"] == 12
    assert result["loss"] == pytest.approx([1, 0.5, 1 / 3], rel=1e-4)


@pytest.mark.slow
def test_settings_and_metrics_of_runs_stand_on_one_page_with_differences_marked(page):
    """Request mlflow/mlflow #2836."""
    script = f"""{HELPERS}
    const shown = () => [...byId('settings').tBodies[0].rows]
      .filter(row => row.getClientRects().length).map(row => row.cells[0].textContent);
    const few = shown();
    byId('settings-all').click();
    return {{few, all: shown(), marks: byId('settings').querySelectorAll('mark').length,
      metrics: rows('settings')[0].length}}"""
    result = probe(page, script)
    assert {"mIoU (points)", "hp.width", "loss"} <= set(result["few"])
    assert "dataset.name" in set(result["all"]) - set(result["few"])
    assert result["marks"] > 6 and result["metrics"] == 7


@pytest.mark.slow
@pytest.mark.ci
def test_predictions_of_several_runs_stand_side_by_side_with_one_zoom(page):
    """Pull request mlflow/mlflow #22484: images of one sample across runs."""
    script = f"""{HELPERS}
    document.querySelectorAll('#image-candidates input').forEach(box => box.checked || box.click());
    await settle();
    const views = byId('gallery').querySelector('.views').querySelectorAll('canvas').length;
    byId('gallery').querySelector('.views').click();
    byId('viewer').dispatchEvent(new KeyboardEvent('keydown', {{key: '+'}}));
    byId('viewer').dispatchEvent(new KeyboardEvent('keydown', {{key: 'ArrowLeft'}}));
    const shapes = [...byId('viewer').querySelectorAll('canvas')].map(c => c.style.transform);
    const pixel = () => [...byId('gallery').querySelectorAll('canvas')[1]
      .getContext('2d').getImageData(0, 0, 1, 1).data];
    byId('viewer-close').click();
    await settle();
    const painted = pixel();
    byId('classes-none').click();
    await settle();
    const bare = pixel();
    byId('classes-all').click();
    choose('image-colors', 'apart');
    await settle();
    return {{views, shapes, painted, bare, safe: pixel(),
      count: byId('image-count').textContent}}"""
    result = probe(page, script)
    assert result["views"] == 2 + 2 * 6  # image, truth, and two of each candidate
    assert len(set(result["shapes"])) == 1 and "scale(1.25)" in result["shapes"][0]
    assert result["painted"] != result["bare"] and result["bare"][:3] == [99] * 3
    assert result["count"].endswith("images")


@pytest.mark.slow
def test_parts_of_the_split_and_the_images_behind_a_confusion_are_shown(page, report):
    """Scenarios of voxel51/fiftyone (pull requests #5512, #5332): subsets, and cells' images."""
    script = f"""{HELPERS}
    const input = document.querySelector('[data-filters=parts-table]');
    input.value = 'road';
    input.dispatchEvent(new Event('input'));
    const parts = rows('parts-table');
    choose('confusion-true', '0');
    choose('confusion-predicted', '1');
    const items = [...byId('confusion-images').children].map(item => item.textContent);
    return {{parts, items, words: byId('confusion-words').textContent}}"""
    result = probe(page, script)
    assert {row[1].split(" ")[0] for row in result["parts"]} == {"up", "over"}
    assert sum(int(row[2]) for row in result["parts"]) == 12
    counts = [int(re.search(r": ([\d,]+) pixels", item)[1]) for item in result["items"]]
    assert counts == sorted(counts, reverse=True) and len(counts) == 12
    assert result["words"].startswith("road predicted as ")


@pytest.mark.slow
def test_a_table_keeps_its_first_column_and_chooses_its_columns(page):
    script = f"""{HELPERS}
    const count = () => [...byId('candidates').tHead.rows[0].cells]
      .filter(cell => cell.getClientRects().length).length;
    const before = count();
    document.querySelectorAll('#columns input').forEach(box => box.checked || box.click());
    const input = document.querySelector('[data-filters=candidates]');
    input.value = 'hp.width<2';
    input.dispatchEvent(new Event('input'));
    return {{before, after: count(), total: byId('candidates').tHead.rows[0].cells.length,
      filtered: rows('candidates').length}}"""
    result = probe(page, script)
    assert result["before"] < result["after"] == result["total"]
    assert result["filtered"] == 2
