"""Every benchmark starts, so that a change of the package cannot break one unnoticed."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
BENCHMARKS = [path for path in sorted(FOLDER.rglob("*.py")) if "__main__" in path.read_text()]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda p: p.stem)
def test_it_shows_its_options(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0 and "usage:" in capsys.readouterr().out
