"""The plugin that a part comes from: its name, version and hash, as a run records them."""

import hashlib
import sys
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Plugin:
    """A module or a package that registered parts.

    Attributes:
        name: of the module, or of the package that holds it.
        version: of the installed distribution, else `__version__`; None if neither is known.
        sha256: of the file, or of all Python files of the package; None for an interactive session.
        source: the text that loads it in another process: the path of a file, or a module's name.
    """

    name: str
    version: str | None
    sha256: str | None
    source: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def plugin_of(module_name: str) -> Plugin:
    """Return the plugin of a loaded module."""
    top = sys.modules.get(module_name.partition(".")[0])
    file = getattr(top, "__file__", None)
    path = None if file is None else Path(file).resolve()
    changed = path.stat().st_mtime_ns if path is not None and path.is_file() else 0
    return _plugin(module_name, path, changed)


@cache
def _plugin(module_name: str, path: Path | None, changed: int) -> Plugin:
    """Read and hash a plugin once, until its file changes."""
    name = module_name.partition(".")[0]
    top = sys.modules.get(name)
    is_package = path is not None and path.name == "__init__.py"
    is_installed = _version(name) is not None
    source = module_name if path is None or is_package or is_installed else str(path)
    version = _version(name) or getattr(top, "__version__", None)
    return Plugin(name, None if version is None else str(version), _hash(path), source)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def _hash(path: Path | None) -> str | None:
    """Return the sha256 of a file, or of the Python files of the package that it begins."""
    if path is None or not path.is_file():
        return None
    digest = hashlib.sha256()
    if path.name != "__init__.py":
        digest.update(path.read_bytes())
        return digest.hexdigest()
    for file in sorted(path.parent.rglob("*.py")):
        digest.update(str(file.relative_to(path.parent)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
