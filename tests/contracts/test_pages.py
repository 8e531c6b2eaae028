"""Every link of README and docs leads to a file, also on a package index; pages stay short.

`make docs` checks links within the site and their anchors.
"""

import json
import re
import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"\b((?:src/|tests/|benchmarks/|segtune/)[\w/.]+?(?:\.py|\.json|/))(?=[`: ])")
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_relative_link_leads_to_a_file(page):
    for path, _ in LINK.findall(page.read_text()):
        assert (page.parent / path).exists(), path


@pytest.mark.parametrize("page", [*PAGES, ROOT / "LOG.md"], ids=lambda p: p.name)
def test_every_code_file_that_a_page_names_exists(page):
    for path in CODE.findall(page.read_text()):
        assert (ROOT / path).exists() or (ROOT / "src" / path).exists(), path


def test_readme_and_log_stay_short():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) < 150
    assert len((ROOT / "LOG.md").read_text().splitlines()) < 500
    for paragraph in readme.split("\n\n"):
        is_prose = not paragraph.startswith(("```", "|", "#", "!"))
        assert not is_prose or len(paragraph.splitlines()) <= 5, paragraph


def test_links_of_the_readme_are_absolute_on_a_package_index():
    pytest.importorskip("hatchling", reason="needs the build tools: make setup")
    absolute_links = runpy.run_path(str(ROOT / "hatch_build.py"))["absolute_links"]
    source = PROJECT["urls"]["Source"]
    page = absolute_links((ROOT / "README.md").read_text(), source)
    assert not LINK.search(page)
    assert f"({source}/raw/main/docs/pictures/overlay.png)" in page
    assert f"({source}/blob/main/docs/sweeps.md)" in page
    assert absolute_links("[a](https://x.org) [b](#c)", source) == "[a](https://x.org) [b](#c)"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_opens_in_colab_installs_first_and_holds_its_outputs(path):
    title, install, *others = json.loads(path.read_text(encoding="utf-8"))["cells"]
    repository = PROJECT["urls"]["Source"].removeprefix("https://github.com/")
    address = (
        f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{path.name}"
    )
    assert f"]({address})" in "".join(title["source"])
    assert f"@ git+{PROJECT['urls']['Source']}" in "".join(install["source"])
    cells = [cell for cell in others if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(2, len(cells) + 2))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    texts = [[o.get("text"), o.get("data", {}).get("text/plain")] for o in outputs]
    assert not re.search(r"/tmp/|/root/|/home/", json.dumps(texts)), "a folder of one machine"
