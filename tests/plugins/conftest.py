"""A registry that forgets the plugins of a test, and files of plugins."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segtune.plugins import registry
from segtune.plugins.given import GIVEN

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def forgotten_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the registry, the loaded modules and the search path after each test."""
    registry.parts("loss")  # our own parts are there from now on
    parts, given = dict(registry._parts), dict(GIVEN)
    modules, path = set(sys.modules), list(sys.path)
    yield
    registry._parts.clear()
    registry._parts.update(parts)
    GIVEN.clear()
    GIVEN.update(given)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if "site-packages" not in file and "segtune" not in name:
            del sys.modules[name]


@pytest.fixture
def write_plugin(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes the file of a plugin."""

    def write(text: str, name: str = "somelab") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(f"import segtune\n{text}", encoding="utf-8")
        return path

    return write


@pytest.fixture
def mylab() -> Path:
    """The file of the example plugin."""
    return EXAMPLES / "mylab.py"
