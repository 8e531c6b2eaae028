"""A notebook with its stored outputs as a Markdown page."""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BADGE = re.compile(r"\[!\[(?P<label>[^\]]*)\]\([^)]*\)\]\((?P<address>[^)]*)\)")
_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg"}


def tutorial(notebook: Path) -> dict[str, str | bytes]:
    """Return path -> content: the page, and the pictures of its outputs."""
    parts: list[str] = []
    pictures: dict[str, str | bytes] = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            # the badge is a picture of another server: here, its label is the link
            parts.append(_BADGE.sub(r"[\g<label>](\g<address>)", source))
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            suffix, content = _picture(output)
            if suffix:
                name = f"{notebook.stem}_{len(pictures)}.{suffix}"
                pictures[name] = content
                parts.append(f"![Output of the cell above]({name})")
            elif text := _text(output).strip():
                parts.append(f"```text\n{text}\n```")
    return {f"{notebook.stem}.md": "\n\n".join(parts), **pictures}


def _picture(output: Mapping[str, Any]) -> tuple[str, bytes]:
    for kind, suffix in _SUFFIXES.items():
        if kind in output.get("data", {}):
            return suffix, base64.b64decode("".join(output["data"][kind]))
    return "", b""


def _text(output: Mapping[str, Any]) -> str:
    lines = output.get("text") or output.get("data", {}).get("text/plain", "")
    return "".join(lines)
