"""The page opens from disk in a real browser: no request, no error, escaped names, captions."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution

from segtune.config.schema import TrackingConfig
from segtune.report.compare import compare
from segtune.sweeping.engine.storage import open_storage
from segtune.tracking.store import open_store
from tests.report.fakes import EVIL, fake_run

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(
        BROWSER is None, reason="needs a headless browser: apt-get install chromium"
    ),
    pytest.mark.timeout(240),
]
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
# writes the width of the drawn page and the addresses that it requested into the title
PROBE = """<script>addEventListener('load', () => setTimeout(() => document.title = JSON.stringify({
  width: document.documentElement.scrollWidth, inner: innerWidth,
  requests: performance.getEntriesByType('resource').map(e => e.name)
    .filter(n => !/^(data|blob):/.test(n))}), 4000))
</script></body>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    store = open_store(TrackingConfig(root=str(tmp_path_factory.mktemp("report") / "a store")))
    storage = open_storage(store.root / "sweeps" / "s", None, "s").optuna
    study = optuna.create_study(study_name="s", direction="maximize", storage=storage)
    space = {
        f"loss {EVIL}": CategoricalDistribution([EVIL, "ce"]),
        "hp.width": IntDistribution(0, 9),
    }
    for n in range(6):
        fake_run(store, f"{EVIL}{n}", 0.5 + n / 30, sweep="s", params={"loss": f"{EVIL}{n}"})
        params = {f"loss {EVIL}": [EVIL, "ce"][n % 2], "hp.width": n}
        study.add_trial(
            optuna.trial.create_trial(value=0.5 + n / 30, params=params, distributions=space)
        )
    return compare(store, ["s"])


def browse(page, *options):
    """Return chromium's process: its output, and its log on standard error."""
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", *options]
    words += ["--virtual-time-budget=15000", "--enable-logging=stderr"]
    words += [f"--user-data-dir={Path('profile').absolute()}", page.absolute().as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=180, check=True)


# 500: a headless chromium has no narrower window
@pytest.mark.parametrize("width", [1280, 500])
def test_it_opens_from_disk_without_errors_requests_or_foreign_scripts(report, width):
    page = Path("page.html")
    page.write_text(report.html.read_text().replace("</body>", PROBE))
    process = browse(page, "--dump-dom", f"--window-size={width},900")
    assert [line for line in process.stderr.splitlines() if "CONSOLE" in line] == []
    title = re.search(r"<title>(.*?)</title>", process.stdout)[1]
    probe = json.loads(html.unescape(title))
    assert probe["requests"] == [] and probe["width"] <= probe["inner"]
    drawn = re.findall(r'<div class="plot js-plotly-plot" id="(\w+)"', process.stdout)
    assert set(drawn) == FIGURES
    text = re.sub(r"<script>.*?</script>", "", process.stdout, flags=re.S)
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_every_figure_has_a_title_with_its_unit_and_a_caption(report):
    text = report.html.read_text()
    titles = dict(re.findall(r'<h2 id="(\w+)-title">([^<]+)</h2>', text))
    assert set(titles) == FIGURES
    unitless = {"parallel", "pareto", "importance"}  # their axes have several, or name it
    assert all(
        re.search(r"\((points|%|share)", title)
        for key, title in titles.items()
        if key not in unitless
    )
    for key in FIGURES:
        words = re.search(rf'<figcaption id="{key}-words">([^<]+)', text)
        assert words and len(words[1]) > 15
    assert all("alt=" in image for image in re.findall(r"<img [^>]+>", text))


def test_the_page_prints_to_pdf(report):
    path = Path("report.pdf").absolute()
    browse(report.html, f"--print-to-pdf={path}")
    assert path.read_bytes()[:5] == b"%PDF-" and path.stat().st_size > 50_000
