"""Hooks of MkDocs: generated pages, links out of docs/, each page as Markdown, llms.txt."""

import os
import tomllib
from pathlib import Path

from links import in_site
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page
from python_pages import as_markdown, python_page
from reference import commands_page, config_page
from repository import benchmarks_page, repository_page
from rooms import drawing
from tutorials import tutorial

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCE = PROJECT["urls"]["Source"]
PAGES = {
    "index.md": lambda: repository_page(ROOT / "README.md", SOURCE),
    "contributing.md": lambda: repository_page(ROOT / "CONTRIBUTING.md", SOURCE),
    "changelog.md": lambda: repository_page(ROOT / "CHANGELOG.md", SOURCE),
    "benchmarks.md": lambda: benchmarks_page(ROOT, SOURCE),
    "reference/commands.md": commands_page,
    "reference/config.md": config_page,
    "reference/python.md": python_page,
}
ROOMS_HERE = "<!-- the rooms are drawn here -->"  # in docs/design.md

_plain: dict[str, str] = {}  # page -> its Markdown, for readers without a browser
_sections: list[tuple[str, list[Page]]] = []


def on_config(config: MkDocsConfig) -> None:
    """Take name, summary and address of the project from pyproject.toml."""
    config.site_description = PROJECT["description"]
    config.extra["social"] = [{"icon": "fontawesome/brands/git-alt", "link": SOURCE}]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    # settings of the machine that builds must not change the reference
    for name in [n for n in os.environ if n.startswith("SEGTUNE_")]:
        del os.environ[name]
    for path, write in PAGES.items():
        files.append(File.generated(config, path, content=write()))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for path, content in tutorial(notebook).items():
            files.append(File.generated(config, f"tutorials/{path}", content=content))
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> None:
    """Keep the order of the pages for llms.txt."""
    _sections.clear()
    for section in nav:
        if isinstance(section, Section):
            pages = [child for child in section.children if isinstance(child, Page)]
            _sections.append((section.title, pages))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links out of docs/ lead to the repository, and draw the rooms."""
    if page.file.generated_by is None:
        markdown = in_site(markdown, ROOT / "docs" / page.file.src_uri, ROOT, SOURCE)
    _plain[page.file.src_uri] = as_markdown(markdown)
    if ROOMS_HERE in markdown:
        markdown = markdown.replace(ROOMS_HERE, drawing(ROOT / "src/segtune"))
    return markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Write each page as Markdown, and llms.txt, which lists them."""
    site = Path(config.site_dir)
    for path, text in _plain.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text, encoding="utf-8")
    lines = [f"# {config.site_name}", "", f"> {config.site_description}"]
    for title, pages in _sections:
        lines += ["", f"## {title}", ""]
        lines += [f"- [{page.title}]({page.file.src_uri})" for page in pages]
    (site / "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
