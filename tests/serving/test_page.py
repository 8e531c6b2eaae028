"""The page in a real browser, as a person uses it: files, keys, mouse, phone, dark mode."""

import json

import pytest

from tests.inference.test_video import clip
from tests.pages.browser import needs_browser
from tests.pages.chromium import chromium
from tests.pages.reading import (
    WINDOWS,
    assert_keys_reach_everything,
    assert_no_serious_fault,
    assert_silent,
    focus_on,
)
from tests.serving.server import picture, png, running, slot

SIZE = (120, 160)
# a file that a person drops or pastes
TRANSFER = """(async () => {
  const transfer = new DataTransfer();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [30, 20];
  canvas.getContext('2d').fillRect(0, 0, 9, 9);
  const image = await new Promise((resolve) => canvas.toBlob(resolve));
  transfer.items.add(new File([image], '%s.png', { type: 'image/png' }));
  dispatchEvent(%s);
})()"""
EVENTS = {
    "dropped": "new DragEvent('drop', { dataTransfer: transfer })",
    "pasted": "new ClipboardEvent('paste', { clipboardData: transfer })",
}


@pytest.fixture(scope="module")
def model():
    return slot()


@pytest.fixture
def visit(model, tmp_path):
    """A function that opens the page, and the browser's page; at the end no message is left."""
    with running(model, tmp_path) as client, chromium(tmp_path) as page:
        address = f"http://127.0.0.1:{client.port}"
        yield lambda *window: page.open(address, *window), page, client
        assert_silent(page, address)


def choose_image(page, tmp_path):
    (tmp_path / "a.png").write_bytes(png(picture(size=SIZE)))
    page.choose_file("#file", tmp_path / "a.png")
    page.until("document.querySelector('#status').textContent.startsWith('a.png: 160 x 120')")
    page.until("!state.drawing")


pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.ci
@pytest.mark.parametrize(("width", "is_dark"), WINDOWS)
def test_an_image_becomes_regions_that_keys_and_mouse_explore(
    visit, tmp_path, model, width, is_dark
):
    opened, page, _ = visit
    opened(width, 900, is_dark)
    choose_image(page, tmp_path)
    assert page.run("document.documentElement.scrollWidth") <= width

    regions = model.current.segmenter.segment(picture(size=SIZE)).regions
    owner = page.run("[...state.owner]")
    for number, region in enumerate(regions):
        covered = [index for index, value in enumerate(owner) if value == number]
        assert covered == region.mask().ravel().nonzero()[0].tolist()

    explore_by_keyboard(page, owner.index(0), regions[0])
    number = owner[60 * 160 + 80]
    explore_by_mouse(page, number, regions[number].concept)
    for name, event in EVENTS.items():
        page.run(TRANSFER % (name, event))
        page.until(f"$('status').textContent.startsWith('{name}.png: 30 x 20 pixels')")
    page.run("window.saved = []")
    page.run("HTMLAnchorElement.prototype.click = function () { saved.push(this.download); }")
    for form in ("masks", "regions", "overlays"):
        page.run(f"document.querySelector('[data-format={form}]').click()")
    page.until("saved.length === 3")
    names = ["pasted_masks.png", "pasted_overlays.jpg", "pasted_regions.json"]
    assert sorted(page.run("saved")) == names


def explore_by_keyboard(page, pixel, region):
    """Switch a region's class off, and choose the region; `pixel` is one of it."""
    x, y = pixel % 160, pixel // 160
    color = f"[...$('canvas').getContext('2d').getImageData({x}, {y}, 1, 1).data].slice(0, 3)"
    original = picture(size=SIZE)[y, x].tolist()
    assert page.run(color) != original
    focus_on(page, "#classes input")
    for _ in range(region.concept_id):
        page.press("Tab")
    page.press(" ", " ")
    page.until("state.hidden.size === 1 && !state.drawing")
    assert page.run(color) == original
    focus_on(page, "#regions button")
    page.press("Enter", "\r")
    assert page.run("state.chosen") == 0
    assert page.run("$('under').textContent").startswith(region.concept)
    page.press("Enter", "\r")
    assert page.run("state.chosen") == -1


def explore_by_mouse(page, number, concept):
    """Move the mouse to the middle of the image, which shows a region, and click."""
    page.run("$('canvas').scrollIntoView({ block: 'center' })")
    box = "(({ x, y, width, height }) => [x, y, width, height])"
    x, y, width, height = page.run(f"{box}($('canvas').getBoundingClientRect())")
    middle = x + 0.502 * width, y + 0.502 * height
    page.move_to(*middle)
    page.until(f"$('under').textContent.startsWith({json.dumps(concept + ': confidence')})")
    page.move_to(*middle, click=True)
    page.until(f"state.chosen === {number}")


@pytest.mark.ci
@pytest.mark.parametrize(("width", "is_dark"), WINDOWS)
def test_axe_finds_nothing_serious(visit, tmp_path, width, is_dark):
    opened, page, _ = visit
    opened(width, 900, is_dark)
    choose_image(page, tmp_path)
    assert_keys_reach_everything(page)
    assert_no_serious_fault(page)


def test_a_clip_becomes_an_overlay_and_leaves_nothing_on_the_server(visit, tmp_path):
    opened, page, client = visit
    opened(1440)
    page.choose_file("#file", clip(tmp_path / "a.mp4", [40 * n for n in range(10)]))
    page.until("$('status').textContent === 'a.mp4: 10 frames' && $('progress').hidden")
    page.until("state.clip !== null")
    assert page.run("state.clip.overlays.size") > 100
    shown = "[...document.querySelectorAll('#downloads button')].filter((b) => !b.hidden).length"
    assert page.run(shown) == 2
    while client("GET", "/v1/jobs").json["jobs"]:
        page.run("new Promise((resolve) => setTimeout(resolve, 100))")
