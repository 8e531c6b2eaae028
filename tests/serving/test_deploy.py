"""The files that build and start a server elsewhere name what exists here."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from segtune.cli.verbs.serving import VERBS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SERVE = (DEPLOY / "serve.Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
OPTIONS = {option.name for option in VERBS["serve"].options}


def test_the_image_installs_extras_and_a_lock_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r'"/src\[([\w,]+)\]"', SERVE)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    for path in re.findall(r"/src/([\w./]+)", SERVE):
        assert (ROOT / path).is_file(), path
    (python,) = re.findall(r"^FROM python:3\.(\d+)-slim$", SERVE, re.M)
    assert int(python) >= int(re.search(r">=\s*3\.(\d+)", project["requires-python"])[1])


@pytest.mark.parametrize("name", [".git", ".venv", "data", "mlruns", "tests"])
def test_the_image_is_not_built_from_what_it_does_not_need(name):
    ignored = (DEPLOY / "serve.Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored and f"!{name}" not in ignored
    for line in ignored:
        assert not line.startswith("!") or (ROOT / line[1:]).exists(), line
    for needed in ("src", "conf", "pyproject.toml", "requirements.lock", "hatch_build.py"):
        assert f"!{needed}" in ignored


def test_the_image_starts_the_command_with_options_that_it_has():
    words = re.findall(r'"([\w.]+)=', "".join(re.findall(r"^ENTRYPOINT .*$", SERVE, re.M)))
    words += [word.partition("=")[0] for word in COMPOSE["serve"]["command"]]
    assert set(words) <= OPTIONS
    assert {"host", "model"} <= set(words)


@pytest.mark.parametrize("service", [name for name, row in COMPOSE.items() if "build" in row])
def test_a_service_is_built_from_files_that_exist(service):
    build = COMPOSE[service]["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert (context / build["dockerfile"]).is_file()


def test_the_folder_of_the_jobs_belongs_to_the_user_of_the_image():
    """A new volume gets the owner of the image's folder."""
    (volume,) = COMPOSE["serve"]["volumes"]
    home = re.search(r"^WORKDIR (\S+)$", SERVE, re.M)[1]
    assert volume.partition(":")[2] == f"{home}/jobs"
    after_user = SERVE[SERVE.index("USER segtune") :]
    assert re.search(r"^RUN mkdir jobs$", after_user[after_user.index("WORKDIR") :], re.M)


def test_a_container_has_more_time_to_end_than_a_request():
    from segtune.serving.settings import ServerSettings

    assert int(COMPOSE["serve"]["stop_grace_period"].rstrip("s")) > ServerSettings().deadline + 1
