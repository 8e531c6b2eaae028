"""Checks that every page must pass in a real browser: rules of axe-core, width, keys, silence.

axe-core (licence MPL-2.0) is fetched from npm for these tests; segtune holds no part of it.
"""

import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from shutil import which

import pytest

from tests.pages.chromium import Page

_AXE = "axe-core@4.14.1"
WINDOWS = [(1440, False), (400, True)]  # width, and whether it is dark
# every element that Tab must reach, and those that it has reached without a ring to see
_WATCH_FOCUS = """(() => {
  const shown = made => made.checkVisibility({ visibilityProperty: true })
    && !made.disabled && made.tabIndex >= 0;
  window.unreached = new Set([...document.querySelectorAll(
    'a[href], button, input, select, textarea, summary, [tabindex]')].filter(shown));
  window.ringless = [];
  const groups = new Set();
  for (const made of window.unreached) {
    if (made.type === 'radio' && groups.has(made.name)) window.unreached.delete(made);
    else if (made.type === 'radio') groups.add(made.name);
  }
  addEventListener('focusin', ({ target }) => {
    window.unreached.delete(target);
    if (getComputedStyle(target).outlineStyle === 'none') window.ringless.push(target.outerHTML);
  });
  document.activeElement.blur();
  return window.unreached.size;
})()"""
_FACTS = """(() => {
  const find = words => [...document.querySelectorAll(words)];
  return {
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    unlabelled: find('input, select').filter(i => !i.labels.length && !i.ariaLabel).length,
    nameless: find('img').filter(i => !i.alt).length,
    headings: find('h1').length - 1,
    overlapping: find('.plot').filter(made => [...made.querySelectorAll('.main-svg')]
      .some(drawn => drawn.clientHeight > made.clientHeight + 1)).length,
    unreachable: find('.scroll').filter(i => i.tabIndex !== 0).length,
  };
})()"""


@cache
def axe() -> str | None:
    """The text of axe-core; None where npm cannot fetch it."""
    if which("npm") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        words = ["npm", "install", "--silent", "--no-audit", "--no-fund", _AXE]
        done = subprocess.run(words, cwd=folder, capture_output=True, timeout=200, check=False)
        source = Path(folder) / "node_modules" / "axe-core" / "axe.min.js"
        return source.read_text() if done.returncode == 0 and source.exists() else None


def assert_no_serious_fault(page: Page) -> None:
    """Run the rules of axe-core on the open page; skip where npm cannot fetch them."""
    source = axe()
    if source is None:
        pytest.skip("npm cannot install axe-core here")
    page.run(source + "; 0")
    found = page.run(
        "axe.run({ iframes: false }).then((r) => r.violations.filter("
        "(v) => ['serious', 'critical'].includes(v.impact))"
        ".map((v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html)]))"
    )
    assert found == []


def assert_fits_and_is_labelled(page: Page) -> None:
    """No sideways scrolling; a label or text for each control and image; one heading."""
    assert set(page.run(_FACTS).values()) == {0}, page.run(_FACTS)


def focus_on(page: Page, selector: str) -> None:
    """Press Tab until an element has the focus, and its ring can be seen."""
    for _ in range(80):
        if page.run(f"document.activeElement === document.querySelector({json.dumps(selector)})"):
            assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
        page.press("Tab")
    raise AssertionError(f"Tab never reaches {selector}")


def assert_keys_reach_everything(page: Page) -> None:
    """Tab reaches every control, each with a ring."""
    count = page.run(_WATCH_FOCUS)
    for number in range(3 * count):  # areas that scroll are stops, too
        page.press("Tab")
        if number > count and page.run("window.unreached.size") == 0:
            break
    left = page.run("[...window.unreached].map((made) => made.outerHTML)")
    assert (left, page.run("window.ringless")) == ([], [])


def assert_silent(page: Page, *origins: str) -> None:
    """No message in the console, and no request beyond these origins."""
    assert page.messages == []
    allowed = (*origins, "data:", "blob:")
    assert [r for r in page.requests if not r.startswith(allowed)] == []
