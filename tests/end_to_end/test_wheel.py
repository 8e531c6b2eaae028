"""The wheel carries conf/ and sweeps/ and works in an empty folder of another environment."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.conftest import TINY

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.ci
def test_a_wheel_works_outside_the_checkout(tmp_path):
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
        str(CHECKOUT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next((tmp_path / "dist").glob("*.whl"))
    venv.create(tmp_path / "other env", with_pip=True)
    python = tmp_path / "other env" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # the dependencies of this environment, behind the wheel's own package
    site = next((tmp_path / "other env" / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    empty = tmp_path / "empty folder"
    empty.mkdir()

    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def segtune(*words):
        command = [str(python), "-m", "segtune", *words]
        return subprocess.run(
            command, cwd=empty, capture_output=True, text=True, timeout=250, env=environment
        )

    ask = [str(python), "-c", "import segtune; print(segtune.__file__)"]
    where = subprocess.run(ask, cwd=empty, capture_output=True, text=True, env=environment)
    assert str(tmp_path) in where.stdout
    find = (
        "from hydra.core.plugins import Plugins; from hydra.plugins.sweeper import Sweeper;"
        "print([c.__name__ for c in Plugins.instance().discover(Sweeper)])"
    )
    found = subprocess.run(
        [str(python), "-c", find], cwd=empty, capture_output=True, text=True, env=environment
    )
    assert "SegtuneSweeper" in found.stdout, found.stderr
    assert "segformer" in segtune("templates").stdout
    done = segtune("train", *TINY, "hp.num_epochs=1", "--json")
    assert done.returncode == 0, done.stderr
    (empty / "conf" / "hp").mkdir(parents=True)
    (empty / "conf" / "hp" / "mine.yaml").write_text("# my own\nnum_epochs: 3\n")
    assert "hp.num_epochs: 3" in segtune("train", "hp=mine", "--print-config").stdout
    assert "quickstart" in segtune("sweep", "quickstar").stderr
