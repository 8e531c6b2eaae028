"""The pages in a real browser: narrow and wide, without a message or a foreign request; live."""

import html
import json
import re
import subprocess
import threading
import time

import pytest
import uvicorn
from fastapi import Response
from starlette.background import BackgroundTask

from segtune.config.schema import TrackingConfig
from segtune.serving.listening import listen
from segtune.serving.ui.app import create_app
from segtune.tracking.store import open_for_reading
from tests.pages.browser import BROWSER, needs_browser
from tests.serving.ui_store import make_store

PATHS = ["/sweeps/s", "/sweeps", "/runs", "/runs/RUN", "/compare", "/datasets/d", "/registry"]
PATHS.append("/runs/RUN/samples/val")
# opens each page in a frame of the given width; the result becomes the title
PROBE = """
const pause = ms => new Promise(done => setTimeout(done, ms));
async function facts(path, width) {
  const frame = document.createElement('iframe');
  frame.style = `width: ${width}px; height: 900px`;
  document.body.append(frame);
  await new Promise(done => { frame.onload = done; frame.src = path; });
  const page = frame.contentDocument, find = words => [...page.querySelectorAll(words)];
  if (path === '/sweeps/s') {
    const isShown = () => find('#trial-3')[0].textContent.includes('0.7500');
    for (let n = 0; n < 60 && !isShown(); n++) await pause(100);
    for (let n = 0; n < 60 && find('.js-plotly-plot').length < 4; n++) await pause(100);
  }
  const result = {
    wide: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    unlabelled: find('input, select').filter(i => !i.labels.length && !i.ariaLabel).length,
    nameless: find('img').filter(i => !i.alt).length,
    headings: find('h1').length,
    unreachable: find('.scroll').filter(i => i.tabIndex !== 0).length,
    foreign: frame.contentWindow.performance.getEntriesByType('resource').map(e => e.name)
      .filter(name => !name.startsWith(location.origin) && !name.startsWith('data:')),
  };
  if (path === '/sweeps/s') {
    result.epoch = find('#trial-3 td')[3].textContent;
    result.lines = find('#curves polyline').length;
    result.plots = find('.js-plotly-plot').length;
  }
  frame.remove();
  return result;
}
(async () => {
  const results = {};
  for (const path of PATHS) for (const width of [400, 1440]) {
    results[`${path} ${width}`] = await facts(path, width);
  }
  document.title = JSON.stringify(results);
  fetch('/done');
})();
"""


@needs_browser
@pytest.mark.slow
@pytest.mark.ci
def test_every_page_fits_and_is_labelled_and_a_sweep_is_followed(tmp_path):
    store, runs = make_store(tmp_path / "store")
    app = create_app(open_for_reading(TrackingConfig(root=str(store.root))))
    paths = json.dumps([path.replace("RUN", runs[0]) for path in PATHS])
    # chromium writes the page when all of it has come: the picture comes when the probe is done
    frame = "<!doctype html><title>-</title><link rel=icon href=data:,><body><img src=/wait>"
    frame += "<script src=/probe.js></script>"
    done = threading.Event()
    script = f"const PATHS = {paths};{PROBE}"
    app.get("/probe.js")(lambda: Response(script, media_type="text/javascript"))
    app.get("/probe")(lambda: Response(frame, media_type="text/html"))
    app.get("/wait")(lambda: Response(status_code=204 if done.wait(60) else 408))
    app.get("/done")(lambda: Response(status_code=204, background=BackgroundTask(done.set)))
    listening, url = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, args=[[listening]], daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    epoch = threading.Timer(3, report_epoch, [store.root / "sweeps" / "s"])
    epoch.start()
    try:
        words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        words += ["--window-size=1500,1000", "--enable-logging=stderr"]
        words += [f"--user-data-dir={tmp_path / 'profile'}", f"{url}/probe"]
        process = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
    assert [line for line in process.stderr.splitlines() if "CONSOLE" in line] == []
    results = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", process.stdout)[1]))
    assert len(results) == 2 * len(PATHS)
    for place, facts in results.items():
        shown = {key: facts.pop(key) for key in ("epoch", "lines", "plots") if key in facts}
        assert shown in ({}, {"epoch": "2/2", "lines": 4, "plots": 4}), place
        assert facts.pop("headings") == 1 and facts.pop("foreign") == [], place
        assert not any(facts.values()), (place, facts)


def report_epoch(folder):
    """Report an epoch of the running trial, as a worker in another process does."""
    from segtune.sweeping.records import load_study

    study = load_study(folder, "s")
    study._storage.set_trial_intermediate_value(study.get_trials()[3]._trial_id, 1, 0.75)
