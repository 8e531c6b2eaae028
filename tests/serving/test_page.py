"""The page in a real browser: an image becomes regions, without a message or a foreign request."""

import html
import json
import re
import shutil
import subprocess

import pytest
from fastapi import Response

from segtune.serving import app as serving_app
from tests.serving.server import picture, png, running, slot

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PROBE = """<script>addEventListener('load', async () => {
  const image = await (await fetch('/probe.png')).blob();
  await take(new File([image], 'a.png', {type: 'image/png'}));
  document.querySelector('#regions button').click();
  document.title = JSON.stringify({
    status: document.getElementById('status').textContent,
    under: document.getElementById('under').textContent,
    regions: document.querySelectorAll('#regions li').length,
    classes: document.querySelectorAll('#classes input').length,
    owner: [...state.owner],
    width: document.documentElement.scrollWidth, inner: innerWidth,
    unlabelled: [...document.querySelectorAll('input')].filter(i => !i.labels.length).length,
    requests: performance.getEntriesByType('resource').map(e => e.name)
      .filter(n => !/^(data|blob):/.test(n)),
  });
})</script></html>"""


@pytest.mark.skipif(BROWSER is None, reason="needs a headless browser: apt-get install chromium")
@pytest.mark.parametrize("width", [1440, 500])  # a headless chromium has no narrower window
def test_an_image_becomes_regions_on_the_page(tmp_path, monkeypatch, width):
    pixels = picture()
    model = slot()
    create_app = serving_app.create_app

    def with_probe(*arguments):
        app = create_app(*arguments)
        text = (serving_app._PAGE / "index.html").read_text().replace("</html>", PROBE)
        app.get("/probe")(lambda: Response(text, media_type="text/html"))
        app.get("/probe.png")(lambda: Response(png(pixels), media_type="image/png"))
        return app

    monkeypatch.setattr("tests.serving.server.create_app", with_probe)
    with running(model, tmp_path) as client:
        address = f"http://127.0.0.1:{client.port}"
        words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        words += [f"--window-size={width},900", "--virtual-time-budget=20000"]
        words += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"]
        process = subprocess.run(
            [*words, f"{address}/probe"], capture_output=True, text=True, timeout=120, check=True
        )
    assert [line for line in process.stderr.splitlines() if "CONSOLE" in line] == []
    page = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", process.stdout)[1]))
    regions = model.current.segmenter.segment(pixels).regions
    assert page["status"] == f"a.png: 56 x 40 pixels, {len(regions)} regions"
    assert page["regions"] == len(regions)
    assert page["classes"] == 3
    assert page["under"].startswith(regions[0].concept)
    assert page["width"] <= page["inner"]
    assert page["unlabelled"] == 0
    assert all(name.startswith(address) for name in page["requests"])
    owner = page["owner"]
    for number, region in enumerate(regions):
        covered = [index for index, value in enumerate(owner) if value == number]
        assert covered == region.mask().ravel().nonzero()[0].tolist()
