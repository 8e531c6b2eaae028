"""What deploy/ holds can be read by what reads it."""

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = sorted((ROOT / "deploy").rglob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.parent.name)
def test_a_script_parses_and_can_be_run(script):
    assert (
        subprocess.run(["bash", "-n", str(script)]).returncode == 0
        and script.stat().st_mode & 0o100
    )


def test_the_compose_file_mounts_and_builds_what_is_there():
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    build = services["tracking"]["build"]
    assert (ROOT / "deploy" / build["context"] / build["dockerfile"]).is_file()
    mounted = [v.split(":")[0] for v in services["database"]["volumes"] if v.startswith("./")]
    assert all((ROOT / "deploy" / m).is_file() for m in mounted) and SCRIPTS
