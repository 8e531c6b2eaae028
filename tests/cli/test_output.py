"""Output on terminals that lack characters, in environments without a home, and as strict JSON."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import segtune
from segtune.cli.main import _json, main
from segtune.cli.verbs.comparing import _after_evaluation
from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.data.source.files import cache_dir
from segtune.errors import ConfigError, StorageError
from segtune.models.encoders import timm_name
from segtune.tracking.store import open_store
from tests.measure.test_evidence import evidence


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_lacks_characters_shows_others(encoding):
    env = {**os.environ, "PYTHONIOENCODING": encoding, "LANG": "C"}
    results = []
    for words in (["--help"], ["train", "--json", "kind=数据"]):
        command = [sys.executable, "-m", "segtune", *words]
        results.append(subprocess.run(command, capture_output=True, env=env, check=False))
    shown, refused = results
    assert shown.returncode == 0 and b"key=value" in shown.stdout and not shown.stderr
    assert refused.returncode == 2
    assert "数据" in json.loads(refused.stdout)["error"]["message"]


def test_json_is_strict_and_survives_names_that_are_no_text():
    text = _json({"path": "a\udcff", "miou": float("nan"), "rows": ({"x": float("inf")}, [1.5])})
    data = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert data == {"path": "a\udcff", "miou": None, "rows": [{"x": None}, [1.5]]}
    assert text.encode()


def test_a_user_without_a_home_has_a_cache_among_the_temporary_files(monkeypatch, tmp_path):
    monkeypatch.delenv("SEGTUNE_CACHE")
    monkeypatch.setattr(
        "os.path.expanduser", lambda path: path
    )  # as where neither HOME nor the user is known
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: f"~/.cache/{name}")
    assert cache_dir().is_absolute() and "~" not in str(cache_dir())


def test_a_store_whose_path_is_too_long_is_refused_at_once(tmp_path):
    root = tmp_path.joinpath(*["d" * 50] * 23)
    with pytest.raises(StorageError, match=r"cannot be used: .*set tracking\.root"):
        open_store(TrackingConfig(root=str(root)))


@pytest.mark.parametrize("name", ["a?b", "a%20b", "~no-such-user", "it's a [1]"])
def test_a_store_lies_where_its_path_says(name, tmp_path):
    open_store(TrackingConfig(root=name))
    assert (tmp_path / name / "mlflow.db").is_file()


@pytest.mark.parametrize("prefix", ["", "tu-", "timm/", "hf-hub:timm/", "hf_hub:timm/"])
def test_an_encoder_may_have_the_prefix_of_another_library(prefix):
    assert timm_name(f"{prefix}resnet18.a1_in1k") == "resnet18.a1_in1k"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18.nosuchtag", "no such weights of resnet18; .*resnet18"),
        ("timm/resnet81", "did you mean 'resnet18'"),
        ("hf-hub:nobody/model", "no such encoder; segtune templates unet"),
        ("resnet18.", "resnet18"),
        ("", "no such encoder"),
    ],
)
def test_an_unknown_encoder_is_refused_with_the_nearest(name, message):
    if name == "resnet18.":
        assert timm_name(name).startswith(message)
        return
    with pytest.raises(ConfigError, match=message):
        timm_name(name)


def test_a_full_disk_is_a_storage_error_and_no_fault_of_ours(monkeypatch, capsys):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules["segtune.cli.main"], "_answer", fail)
    assert main(["list", "--json"]) == 5
    output = capsys.readouterr()
    assert "Traceback" not in output.err and json.loads(output.out)["exit_code"] == 5


def test_python_m_segtune_imports_nothing_from_the_working_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])  # as `python -m` does
    monkeypatch.setattr(sys, "argv", ["segtune", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("segtune", run_name="__main__")
    assert ended.value.code == 0 and segtune.__version__ in capsys.readouterr().out
    assert str(tmp_path) not in sys.path


def test_a_data_folder_named_like_the_sweep_is_not_taken_for_a_model():
    Path("roads").mkdir()
    line = _after_evaluation("roads", evidence(np.random.default_rng(0)), compose([]))
    assert line.endswith("promote roads model=d")
