"""`segtune doctor` finds the damage of a crash, and repairs it without loss of readable data."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from segtune.api.doctor import diagnose
from segtune.cli.main import main
from segtune.config.schema import TrackingConfig
from segtune.sweeping.engine.storage import open_storage
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import get_run
from segtune.tracking.store import open_store


def states(diagnosis, name):
    return [f.state for f in diagnosis.findings if f.name == name]


@pytest.fixture
def store(tmp_path):
    return open_store(TrackingConfig(root=str(tmp_path / "a store")))


def test_a_sound_machine_and_store_are_ok(store, capsys):
    assert main(["doctor", f"tracking.root={store.root}", "--json"]) == 0
    findings = {f["name"]: f["state"] for f in json.loads(capsys.readouterr().out)["findings"]}
    assert {
        findings[n] for n in ("segtune", "torch", "cache", "store", "journals", "outboxes", "runs")
    } == {"ok"}


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    assert diagnose(str(tmp_path / "none")).exit_code == 0 and not (tmp_path / "none").exists()


@pytest.mark.parametrize("fault", ["file in the way", "no database"])
def test_a_store_that_cannot_be_used_is_a_storage_fault(fault, tmp_path):
    root = tmp_path / "store"
    if fault == "no database":
        root.mkdir()
        (root / "mlflow.db").write_bytes(b"no database " * 100)
    else:
        root.write_text("")
    diagnosis = diagnose(str(root))
    assert diagnosis.exit_code == 5 and "FAIL" in states(diagnosis, "store")


def test_a_cache_that_cannot_be_written_is_a_storage_fault(monkeypatch):
    monkeypatch.setenv("SEGTUNE_CACHE", "/proc/nowhere")
    diagnosis = diagnose()
    assert diagnosis.exit_code == 5 and states(diagnosis, "cache") == ["FAIL"]


@pytest.mark.parametrize("damage", [b"{half", b"\xff\xfe", b"[]", b"\0" * 50])
def test_a_damaged_journal_is_cut_before_the_damage_and_kept(damage, store):
    folder = store.root / "sweeps" / "s"
    study = optuna.create_study(study_name="s", storage=open_storage(folder, None, "s").optuna)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    path = folder / "journal.log"
    lines = path.read_bytes().splitlines(keepends=True)
    third = next(
        n for n, line in enumerate(lines) if b'"op_code":4' in line and n > len(lines) // 2
    )
    broken = b"".join([*lines[:third], damage + b"\n", *lines[third + 1 :]])
    path.write_bytes(broken)
    diagnosis = diagnose(str(store.root))
    assert (
        diagnosis.exit_code == 4
        and f"line {third + 1} cannot be read" in diagnosis.to_json()["findings"][-4]["text"]
    )
    assert path.read_bytes() == broken  # nothing changes without --fix
    assert states(diagnose(str(store.root), fix=True), "journals") == ["fixed"]
    assert path.read_bytes() == b"".join(lines[:third])
    assert (folder / "journal.log.damaged").read_bytes() == broken
    again = optuna.load_study(study_name="s", storage=open_storage(folder, None, "s").optuna)
    assert [t.value for t in again.trials[:1]] == [study.trials[0].value]
    assert diagnose(str(store.root)).exit_code == 0


def test_half_a_line_at_the_end_of_a_journal_is_no_damage(store):
    folder = store.root / "sweeps" / "s"
    optuna.create_study(study_name="s", storage=open_storage(folder, None, "s").optuna)
    with (folder / "journal.log").open("ab") as file:
        file.write(b'{"op_code":')
    assert states(diagnose(str(store.root)), "journals") == ["ok"]


def test_held_back_metrics_are_sent(store):
    run = RunWriter.create(store, "r", {}, {"segtune.kind": "dataset"})
    message = {"metrics": {"val/miou": 0.5}, "step": 1, "time": 1}
    run._outbox._keep(message)
    assert diagnose(str(store.root)).exit_code == 4
    assert states(diagnose(str(store.root), fix=True), "outboxes") == ["fixed"]
    assert get_run(store, run.run_id).metrics == {"val/miou": 0.5}
    run._outbox._keep(message)
    with run._outbox.path.open("a") as file:
        file.write('{"metrics": {"val')
    assert diagnose(str(store.root)).exit_code == 4
    assert states(diagnose(str(store.root), fix=True), "outboxes") == ["fixed"]
    run._outbox._keep({"metrics": "none"})
    assert states(diagnose(str(store.root), fix=True), "outboxes") == ["fixed", "warn"]
    assert diagnose(str(store.root)).exit_code == 4


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("fix", [False, True])
def test_held_back_metrics_of_a_deleted_run_do_not_count_as_sent(store, others, fix):
    runs = [
        RunWriter.create(store, f"r{n}", {}, {"segtune.kind": "run"}) for n in range(1 + others)
    ]
    for run in runs:
        run._outbox._keep({"metrics": {"val/miou": 0.5}, "step": 1, "time": 1})
    store.client.delete_run(runs[0].run_id)
    diagnosis = diagnose(str(store.root), fix=fix)
    assert diagnosis.exit_code == 4 and runs[0]._outbox.path.is_file()
    lost, *others_found = [f for f in diagnosis.findings if f.name == "outboxes"]
    assert lost.state == "warn" and f"mlflow runs restore --run-id {runs[0].run_id}" in lost.line()
    assert [f.state for f in others_found] == ["fixed" if fix else "warn"] * others
    assert all("metrics of 1 runs" in f.text for f in others_found)


WRITER = """
import sys, time
from segtune.api.experiments import open_root
from segtune.tracking.run_writer import RunWriter
run = RunWriter.create(open_root(sys.argv[1], None), "r", {}, {"segtune.kind": "run"})
print(run.run_id, flush=True)
time.sleep(600)
"""


def test_a_run_whose_process_was_killed_is_a_stray_and_a_living_one_is_not(store):
    words = [sys.executable, "-c", WRITER, str(store.root)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    assert states(diagnose(str(store.root), fix=True), "runs") == ["ok"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    diagnosis = diagnose(str(store.root))
    assert diagnosis.exit_code == 4 and states(diagnosis, "runs") == ["warn"]
    assert states(diagnose(str(store.root), fix=True), "runs") == ["fixed"]
    assert get_run(store, run_id).state == "interrupted"
    assert diagnose(str(store.root)).exit_code == 0


def test_a_stray_of_another_experiment_is_found_too(store):
    other = open_store(TrackingConfig(root=str(store.root), experiment="mine"))
    run = RunWriter.create(other, "r", {}, {"segtune.kind": "run"})
    run._lock.release()
    assert states(diagnose(str(store.root)), "runs") == ["warn"]
    assert main(["doctor", "--fix", f"tracking.root={store.root}", "tracking.experiment=mine"]) == 0
    assert get_run(other, run.run_id).state == "interrupted"


def test_a_checkpoint_that_was_cut_off_is_set_aside(store, tmp_path):
    import torch

    folder: Path = store.root / "runs" / "r"
    folder.mkdir(parents=True)
    torch.save({"x": torch.zeros(100)}, folder / "last.ckpt")
    assert states(diagnose(str(store.root)), "checkpoints") == ["ok"]
    content = (folder / "last.ckpt").read_bytes()
    (folder / "last.ckpt").write_bytes(content[: len(content) // 2])
    assert diagnose(str(store.root)).exit_code == 4
    assert states(diagnose(str(store.root), fix=True), "checkpoints") == ["fixed"]
    assert not (folder / "last.ckpt").exists() and (folder / "last.ckpt.damaged").exists()


@pytest.mark.parametrize(
    ("words", "some"),
    [
        (["tr"], {"train"}),
        (["train", "temp"], {"template="}),
        (["train", "template=s"], {"template=swift", "template=segformer"}),
        (["train", "hp.nu"], {"hp.num_epochs="}),
        (["train", "trainer.precision="], {"trainer.precision=bf16"}),
        (["train", "trainer.compile="], {"trainer.compile=true"}),
        (["train", "--pr"], {"--print-config"}),
        (["sweep", "quick"], {"quickstart"}),
        (["sweep", "sweep.n"], {"sweep.n_trials="}),
        (["promote", "x", "gate.max_e"], {"gate.max_ece="}),
        (["predict", "formats="], {"formats=coco"}),
        (["predict", "workflow=d"], {"workflow=driving"}),
        (["templates", "un"], {"unet"}),
        (["config", "trainer.em"], {"trainer.ema_decay"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["nothing", ""], set()),
    ],
)
def test_the_shell_is_offered_what_can_stand_next(words, some, capsys):
    assert main(["__complete", *words]) == 0
    assert some <= set(capsys.readouterr().out.splitlines())


def test_bash_takes_the_script_and_completes_with_it(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "segtune").write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m segtune "$@"\n'
    )
    (tmp_path / "segtune").chmod(0o755)
    words = "COMP_WORDS=(segtune tra); COMP_CWORD=1"
    line = f"PATH=.:$PATH; . ./script; {words}; _segtune; echo ${{COMPREPLY[@]}}"
    bash = shutil.which("bash") or pytest.skip("no bash")
    result = subprocess.run([bash, "-c", line], capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["train"]
