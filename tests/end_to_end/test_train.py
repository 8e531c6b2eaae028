"""One run from config to segmenter: the same number twice, resumable, honest about its metrics."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import segtune
from segtune.cli.main import main
from segtune.config.commands import program
from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError, Interrupted
from segtune.runtime.signals import StopRequest
from segtune.tracking.runs import artifact, curve, get_run
from segtune.tracking.store import open_store
from segtune.training.fit import fit
from segtune.training.request import RunHooks
from tests.conftest import OPEN_GATE, TINY

QUIET = {"say": lambda _: None}


def at(root: Path, *more: str) -> list[str]:
    return [*TINY, f"tracking.root='{root}'", *more]


def test_the_same_seed_gives_the_same_miou_and_weights(tiny_run, tmp_path):
    again = segtune.train(*at(tmp_path), **QUIET)
    assert again.metrics == tiny_run.metrics
    a, b = (load_file(r.segmenter / "model.safetensors") for r in (tiny_run, again))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert (
        torch.are_deterministic_algorithms_enabled()
        and not torch.utils.deterministic.fill_uninitialized_memory
    )
    lines: list[str] = []
    third = segtune.train(*at(tmp_path, "seed=1"), say=lines.append)
    phases = (
        "training: 2 epochs, then about",
        "epoch 1/2",
        "epoch 2/2",
        "class offsets: looking at 6 train images",
        "measuring: 3 val images",
        "saving: ",
        "finished: ",
    )
    places = [next(n for n, line in enumerate(lines) if line.startswith(phase)) for phase in phases]
    assert places == sorted(places)
    c = load_file(third.segmenter / "model.safetensors")
    assert any(not torch.equal(a[k], c[k]) for k in a)


def test_the_reported_number_is_what_the_segmenter_scores(store_root, tiny_run):
    done = segtune.evaluate(tiny_run.run_id, *TINY[:2], f"tracking.root='{store_root}'", **QUIET)
    assert (
        done.interval.low <= done.scores.miou <= done.interval.high
        and len(done.names) == done.interval.units == 3
    )
    assert done.scores.miou == pytest.approx(tiny_run.miou, abs=1e-12)
    recorded = get_run(open_store(TrackingConfig(root=str(store_root))), tiny_run.run_id)
    assert recorded.miou == pytest.approx(tiny_run.miou)


def test_class_offsets_are_recorded_and_without_them_the_best_epoch_is_kept(
    store_root, tiny_run, tmp_path
):
    store = open_store(TrackingConfig(root=str(store_root)))
    added = json.loads(artifact(store, tiny_run.run_id, "class_offsets.json").read_text())
    assert len(added) == 10 and any(added.values())
    plain = segtune.train(*at(tmp_path, "trainer.class_offsets=false"), **QUIET)
    own = open_store(TrackingConfig(root=str(tmp_path)))
    # the best of the epochs, up to the last bits of an interpolation that is done in other batches
    assert plain.miou == pytest.approx(
        max(v for _, v in curve(own, plain.run_id, "val/miou")), abs=1e-3
    )
    assert plain.miou != tiny_run.miou
    assert artifact(own, plain.run_id, "class_offsets.json") is None


def test_a_run_records_its_config_classes_and_metrics(store_root, tiny_run):
    store = open_store(TrackingConfig(root=str(store_root)))
    run = get_run(store, tiny_run.run_id)
    assert (
        run.state == "finished"
        and run.params["hp.width"] == "16"
        and run.params["template"] == "swift"
    )
    assert [step for step, _ in curve(store, run.id, "val/miou")] == [0, 1]
    assert len(curve(store, run.id, "val/iou/road")) == 2
    config = yaml.safe_load(artifact(store, run.id, "config.yaml").read_text())
    assert config["hp"]["num_epochs"] == 2
    assert len(json.loads(artifact(store, run.id, "classes.json").read_text())) == 10
    assert (
        "torch" in json.loads(artifact(store, run.id, "environment.json").read_text())["libraries"]
    )
    assert len(list(artifact(store, run.id, "overlays").glob("*.png"))) == 3
    assert len(run.tags["segtune.dataset"]) == 64


def test_a_run_resumed_from_its_checkpoint_ends_as_an_uninterrupted_one(tmp_path):
    words = at(tmp_path, "hp.num_epochs=4", "trainer.ema_decay=0.9")
    reference = segtune.train(*words, **QUIET)
    stop, begun = StopRequest(), []

    def stop_in_the_third_epoch(epoch, metrics):
        stop.requested = epoch == 1
        return False

    with pytest.raises(Interrupted, match="segtune train resume="):
        fit(
            compose(words).config,
            hooks=RunHooks(on_start=begun.append, on_epoch=stop_in_the_third_epoch),
            stop=stop,
        )
    store = open_store(TrackingConfig(root=str(tmp_path)))
    assert get_run(store, begun[0]).state == "interrupted"
    resumed = segtune.train(f"resume={begun[0]}", f"tracking.root='{tmp_path}'", **QUIET)
    assert resumed.run_id == begun[0] and resumed.metrics == reference.metrics
    assert get_run(store, begun[0]).state == "finished"
    with pytest.raises(ConfigError, match="has finished"):
        segtune.train(f"resume={begun[0]}", f"tracking.root='{tmp_path}'", **QUIET)


def test_sigterm_between_two_steps_interrupts_too(tmp_path):
    def ask_to_stop(epoch, metrics):
        os.kill(os.getpid(), signal.SIGTERM)
        return False

    begun = []
    with pytest.raises(Interrupted, match="segtune train resume="):
        hooks = RunHooks(on_start=begun.append, on_epoch=ask_to_stop)
        fit(compose(at(tmp_path)).config, hooks=hooks)
    assert get_run(open_store(TrackingConfig(root=str(tmp_path))), begun[0]).state == "interrupted"


def test_ctrl_c_while_measuring_stops_and_the_resumed_run_trains_nothing_again(
    tiny_run, tmp_path, capsys
):
    root = tmp_path / "a store"

    def ask_to_stop(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("segtune.training.best_segmenter.measure_split", ask_to_stop)
        assert main(["train", *at(root)]) == 130
    verb, *words = words_to_resume(capsys.readouterr().err)
    assert verb == "train" and Path(compose(words[1:]).config.tracking.root) == root
    lines: list[str] = []
    resumed = segtune.train(*words, say=lines.append)
    assert resumed.metrics == tiny_run.metrics
    assert not any(line.startswith("epoch") for line in lines)


def words_to_resume(message: str) -> list[str]:
    """The words behind the program in the command that resumes a run, as a shell reads them."""
    printed = message.split("Continue from its last checkpoint: ")[1]
    return shlex.split(printed)[len(program()) :]


@pytest.mark.slow
def test_ctrl_c_ends_the_process_with_130_and_the_command_to_resume(tmp_path):
    words = at(tmp_path / "a store", "hp.num_epochs=500", "trainer.limit_train_batches=null")
    command = [sys.executable, "-m", "segtune", "train", *words]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for line in process.stderr:
            if line.startswith("epoch 2/"):
                break
        process.send_signal(signal.SIGINT)
        message = process.stderr.read()
    assert process.returncode == 130
    assert "segtune train resume=" in message and "Traceback" not in message


def test_fine_tuning_starts_from_a_registered_segmenter(store_root, tiny_run):
    segtune.promote(tiny_run.run_id, "base", *OPEN_GATE, root=str(store_root))
    lines: list[str] = []
    weights = "hp.pretrained_weights='models:/base@champion'"
    segtune.train(
        *TINY, f"tracking.root='{store_root}'", weights, "hp.num_epochs=1", say=lines.append
    )
    assert any("tensors from models:/base@champion" in line for line in lines)


def test_a_run_that_diverges_fails_with_its_lr(tmp_path):
    with pytest.raises(
        ConfigError, match=r"became (nan|inf) at step \d+ at lr .*last finite loss.*per_item_lrate"
    ):
        segtune.train(
            *at(tmp_path, "hp.per_item_lrate=1e30", "optimizer=sgd", "hp.num_epochs=6"), **QUIET
        )


def test_a_batch_of_one_is_refused_if_the_template_needs_two(tmp_path):
    words = [w for w in at(tmp_path) if "hp.width" not in w]
    more = [
        "template=deeplabv3plus",
        "hp.encoder=resnet18",
        "hp.pretrained_weights=none",
        "hp.batch_size=1",
    ]
    with pytest.raises(ConfigError, match="needs at least 2"):
        segtune.train(*words, *more, **QUIET)


def test_the_last_epoch_is_validated_whatever_val_every_says(tmp_path):
    result = segtune.train(*at(tmp_path, "hp.num_epochs=3", "trainer.val_every=2"), **QUIET)
    assert [
        s
        for s, _ in curve(open_store(TrackingConfig(root=str(tmp_path))), result.run_id, "val/miou")
    ] == [1, 2]


def test_early_stopping_ends_a_run_that_no_longer_improves(tmp_path):
    result = segtune.train(
        *at(tmp_path, "hp.num_epochs=30", "hp.per_item_lrate=0.0", "trainer.early_stopping=2"),
        **QUIET,
    )
    store = open_store(TrackingConfig(root=str(tmp_path)))
    values = [value for _, value in curve(store, result.run_id, "val/miou")]
    assert len(values) < 30 and values.index(max(values)) == len(values) - 3


def test_under_slurm_a_signal_interrupts_and_a_foreign_checkpoint_is_not_read(
    tmp_path, monkeypatch
):
    slurm = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "a", "SLURM_JOB_ID": "7", "LOCAL_RANK": "1"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    foreign = Path("hpc_ckpt_1.ckpt")  # Lightning would start from it, in any working folder
    foreign.write_bytes(b"of another run")

    def preempt(epoch, metrics):
        os.kill(os.getpid(), signal.SIGUSR1)
        return False

    config = compose(at(tmp_path, "hp.num_epochs=3")).config
    with pytest.raises(Interrupted, match="Continue from its last checkpoint"):
        fit(config, hooks=RunHooks(on_epoch=preempt))
    assert sorted(Path.cwd().glob("*.ckpt")) == [foreign.absolute()]
    assert not list((tmp_path / "runs").rglob("hpc_ckpt*"))
    assert segtune.train("resume=last", f"tracking.root={tmp_path}", **QUIET).state == "finished"
