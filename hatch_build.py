"""Build hook: make the links of README.md absolute, so that they work on a package index.

The address is `[project.urls] Source` in pyproject.toml.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)]+)\)")


def absolute_links(text: str, source: str) -> str:
    """Return a Markdown text whose relative links point into the repository at `source`."""

    def absolute(link: re.Match[str]) -> str:
        bang, label, path = link.groups()
        view = "raw" if bang or path.endswith(".png") else "blob"
        return f"{bang}[{label}]({source}/{view}/main/{path})"

    return _RELATIVE.sub(absolute, text)


class ReadmeHook(MetadataHookInterface):
    """Fill in `readme`, which pyproject.toml declares as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the readme of a wheel or source distribution."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = absolute_links(text, metadata["urls"]["Source"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
