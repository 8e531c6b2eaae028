"""Tell an error in the code of a plugin from a fault of segtune."""

import sys
import traceback
from pathlib import Path

from segtune.plugins.given import GIVEN
from segtune.plugins.registry import plugin_parts


def plugin_fault(error: BaseException) -> str | None:
    """Return a message if an error passed through the code of a plugin; None otherwise.

    It names the plugin, and the last line of its code in the traceback.
    """
    files = _files()
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        for place, name in files.items():
            if frame.filename == place or frame.filename.startswith(f"{place}/"):
                reason = " ".join(str(error).split())
                return (
                    f"plugin '{name}' fails: {type(error).__name__}: {reason} ({frame.filename}, "
                    f"line {frame.lineno}). The lines above show the way to it."
                )
    return None


def _files() -> dict[str, str]:
    """Return file or folder -> name, of all plugins that are loaded."""
    names = [part.plugin.name for part in plugin_parts() if part.plugin is not None]
    names += [Path(source).stem for source in GIVEN]
    files: dict[str, str] = {}
    for name in dict.fromkeys(names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None:
            path = Path(file)
            files[str(path.parent if path.name == "__init__.py" else path)] = name
    return files
