"""Open a page in headless chromium, run a script in it, and return what the script computes."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="needs a headless browser: apt-get install chromium"
)
# the script runs when the page has loaded; its result becomes the title
_PROBE = """<script>addEventListener('load', async () => {
  let result;
  try { result = await (async () => { %s })(); } catch (error) { result = {error: String(error)}; }
  document.title = JSON.stringify(result);
});</script></body>"""


def probe(page, script, *options, width=1280, wait=15000):
    """Return the JSON value of a script's `return`, asserting that the console stays empty.

    Args:
        page: text of the page.
        options: more words for chromium.
        wait: the page's own milliseconds; they pass at once where nothing happens.
    """
    path = Path("probe.html").absolute()
    path.write_text(page.replace("</body>", _PROBE % script))
    process = browse(
        path, "--dump-dom", f"--window-size={width},900", f"--virtual-time-budget={wait}", *options
    )
    messages = [line for line in process.stderr.splitlines() if "CONSOLE" in line]
    assert not messages, messages
    title = re.search(r"<title>(.*?)</title>", process.stdout, re.S)[1]
    return json.loads(html.unescape(title))


def browse(path, *options):
    """Return chromium's process: its output, and its log on standard error."""
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    words += [f"--user-data-dir={Path('profile').absolute()}", *options, path.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=180, check=True)
