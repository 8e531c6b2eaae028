"""Links of a Markdown file, as they are in the site."""

import os
import re
from pathlib import Path

_RELATIVE = re.compile(
    r"(?P<label>!?\[[^\]]*\])\((?!https?://|#)(?P<path>[^)#]+)(?P<anchor>#[^)]*)?\)"
)
_SITE_PAGES = {"CONTRIBUTING.md", "CHANGELOG.md", "LOG.md", "README.md"}
_NAMES = {"LOG.md": "benchmarks.md", "README.md": "index.md"}


def in_site(text: str, file: Path, root: Path, source: str) -> str:
    """Return the text of a file of the repository with links for its page.

    A link to a page or picture of the site stays within the site; any other one leads to the
    repository at `source`. A link that leads to no file stays, and MkDocs reports it.
    """
    here = file.parent if file.is_relative_to(root / "docs") else root / "docs"

    def placed(link: re.Match[str]) -> str:
        target = (file.parent / link["path"]).resolve()
        anchor = link["anchor"] or ""
        if not target.exists():
            return link[0]
        name = target.relative_to(root).as_posix()
        if target.is_relative_to(root / "docs") and target.is_file():
            return f"{link['label']}({Path(os.path.relpath(target, here)).as_posix()}{anchor})"
        if name in _SITE_PAGES:
            return f"{link['label']}({_NAMES.get(name, name.lower())}{anchor})"
        view = "tree" if target.is_dir() else "blob"
        return f"{link['label']}({source}/{view}/main/{name}{anchor})"

    return _RELATIVE.sub(placed, text)
