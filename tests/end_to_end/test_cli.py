"""The command line: fast help, nearest names, one JSON object, documented exit codes."""

import json
import os
import resource
import subprocess
import sys

import pytest

from segtune.cli.main import main
from segtune.cli.verbs import VERBS
from tests.conftest import TINY


def run(*words, cwd=None, **environment):
    command = [sys.executable, "-m", "segtune", *words]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=240)


def cpu_seconds() -> float:
    """CPU time of this process's finished children; other processes do not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_takes_under_half_a_second():
    times = []
    for _ in range(5):
        before = cpu_seconds()
        assert run("--help").returncode == 0
        times.append(cpu_seconds() - before)
    assert min(times) < 0.5


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", "dataset=stret"], "did you mean 'street'?"),
        (["train", "hp.num_epoch=3"], "did you mean 'num_epochs'?"),
        (["sweep", "quikstart"], "did you mean 'quickstart'?"),
        (["templates", "swfit"], "did you mean 'swift'?"),
        (["predict", "modle=x", "source=y"], "did you mean 'model'?"),
        (["train", "--jsn"], "did you mean '--json'"),
    ],
)
def test_a_typo_is_answered_in_under_two_seconds_without_a_traceback(words, hint):
    before = cpu_seconds()
    done = run(*words)
    assert cpu_seconds() - before < 2.0
    assert done.returncode == 2 and hint in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help_with_an_example(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert "example: segtune" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "hp.batch_size=1000"], 2, "1..64"),
        (
            ["train", "dataset=folder", "dataset.root=nowhere", "dataset.classes=[a]"],
            3,
            "does not exist",
        ),
        (["compare", "nothing"], 2, "is not in the store"),
        (["promote", "nothing"], 2, "model=NAME"),
        (["predict", "source=x"], 2, "model=URI"),
        (
            ["predict", "model=models:/none@champion", "source=x.png"],
            2,
            "no such registered segmenter",
        ),
        (
            ["train", "trainer=gpu", "dataset.street.train=2", "dataset.street.val=1"],
            2,
            "no CUDA device",
        ),
        (["train", "words"], 2, "not key=value"),
    ],
)
def test_bad_input_gets_one_message_and_its_exit_code(words, code, message, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main([*words, "--json"]) == code
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert json.loads(captured.out)["exit_code"] == code


def test_a_store_that_cannot_be_written_is_exit_code_five(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["compare", "x", f"tracking.root={tmp_path}/file/store"]) == 5
    assert "cannot be written" in capsys.readouterr().err


def test_print_config_shows_values_and_their_origin(capsys):
    assert main(["train", "--print-config", "hp=quick", "seed=9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("seed: 9") and line.endswith("# command line") for line in lines)
    assert any(
        line.startswith("hp.num_epochs: 12") and line.endswith("# hp/quick.yaml") for line in lines
    )


def test_train_and_predict_print_one_json_object_each(tmp_path, capsys):
    root = f"tracking.root='{tmp_path}/a store'"
    assert main(["train", *TINY, "hp.num_epochs=1", root, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["uri"] == f"runs:/{result['run']}" and 0 <= result["metrics"]["val/miou"] <= 1
    words = [
        f"model={result['segmenter']}",
        f"source={result['folder']}/../../artifacts",
        "output=out",
        "--json",
    ]
    code = main(["predict", *words])
    assert code == 0 and json.loads(capsys.readouterr().out)["images"] > 0


def test_an_unreadable_file_is_exit_code_four(tiny_run, tmp_path, capsys):
    import numpy as np
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no")
    assert (
        main(["predict", f"model={tiny_run.segmenter}", "source=good.png", "bad.png", "output=out"])
        == 4
    )
    assert "bad.png" in capsys.readouterr().out


def test_values_may_be_quoted_as_hydra_wants_them(tiny_run, tmp_path, capsys):
    import numpy as np
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "my photo.png")
    words = [f"model='{tiny_run.segmenter}'", "source='my photo.png'", 'output="an out"', "--json"]
    assert main(["predict", *words]) == 0
    assert (
        json.loads(capsys.readouterr().out)["images"] == 1
        and (tmp_path / "an out" / "regions.json").is_file()
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["templates"], ["--help"], ["train", "--help"]])
def test_a_closed_pipe_is_no_error(words, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "segtune", *words],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_predict_takes_a_model_or_a_workflow_and_promote_a_run_or_a_workflow(capsys):
    assert (
        main(["predict", "source=x"]) == 2
        and "either model=URI or workflow=NAME" in capsys.readouterr().err
    )
    assert main(["predict", "model=a", "workflow=driving", "source=x"]) == 2
    capsys.readouterr()
    assert main(["predict", "model=a", "source=x", "workflow.filter.min_area=3"]) == 2
    assert "changes a workflow; name it" in capsys.readouterr().err
    assert main(["promote", "RUN", "workflow=driving", "model=m"]) == 2
    assert "takes no run and no gate" in capsys.readouterr().err
