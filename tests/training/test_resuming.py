"""Resume interrupted runs, and extend finished ones."""

import json
import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

import segtune
from segtune.config.commands import command, in_folder, recorded_words
from segtune.config.compose import compose
from segtune.config.schema import RunConfig, TrackingConfig
from segtune.errors import ConfigError, DataError, Interrupted, SegtuneError
from segtune.models.optim.schedule import lr_factor
from segtune.runtime.signals import StopRequest
from segtune.tracking.registry import locate
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import artifact, curve, get_run, search_runs
from segtune.tracking.store import Store, open_store
from segtune.training.components import prepare
from segtune.training.fit import fit
from segtune.training.lightning_module import _EpochLosses
from segtune.training.opening import open_run
from segtune.training.request import RunHooks, RunRequest
from segtune.training.resuming import (
    COMMAND,
    copy_progress,
    resumable,
    with_recorded_epochs,
    words_of_resumed,
)
from tests.conftest import OPEN_GATE, TINY


def store_at(root: Path) -> Store:
    return open_store(TrackingConfig(root=str(root)))


def interrupted(root: Path, *more: str) -> str:
    """Train a run of four epochs, and stop it in the third; return its id."""
    stop, begun = StopRequest(), []

    def stop_in_the_third_epoch(epoch: int, _: object) -> bool:
        stop.requested = epoch == 1
        return False

    words = [*TINY, "hp.num_epochs=4", f"tracking.root='{root}'", *more]
    with pytest.raises(Interrupted):
        fit(
            compose(words).config,
            hooks=RunHooks(on_start=begun.append, on_epoch=stop_in_the_third_epoch),
            stop=stop,
        )
    return begun[0]


def resume(root: Path, named: str, *more: str, say: Callable[[str], None] = lambda _: None):
    return segtune.train(f"resume={named}", f"tracking.root='{root}'", *more, say=say)


def reshape_tensors(path: Path) -> None:
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"] = {k: v[..., None] for k, v in checkpoint["state_dict"].items()}
    torch.save(checkpoint, path)


DAMAGES = {
    "last.ckpt.*missing": lambda folder: (folder / "last.ckpt").unlink(),
    "last.ckpt' cannot be used": lambda folder: (folder / "last.ckpt").write_bytes(b""),
    "last.ckpt' cannot be used ": lambda folder: (folder / "last.ckpt").write_bytes(
        (folder / "last.ckpt").read_bytes()[:-999]
    ),
    "parts of it are missing": lambda folder: torch.save({"state_dict": {}}, folder / "last.ckpt"),
    "it is of another model": lambda folder: reshape_tensors(folder / "last.ckpt"),
    "best.safetensors' cannot be used": lambda folder: (folder / "best.safetensors").unlink(),
    "best.safetensors' cannot be used ": lambda folder: (folder / "best.safetensors").write_bytes(
        b"x" * 99
    ),
}


def test_a_missing_or_damaged_checkpoint_is_refused_and_an_intact_one_resumes(tmp_path):
    run = interrupted(tmp_path)
    folder, kept = tmp_path / "runs" / run, tmp_path / "kept"
    shutil.copytree(folder, kept)
    for message, damage in DAMAGES.items():
        damage(folder)
        with pytest.raises(DataError, match=message.strip()):
            resume(tmp_path, run)
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
    with (
        FileLock(folder / "train.lock"),
        pytest.raises(ConfigError, match="another process trains this run"),
    ):
        resume(tmp_path, run)
    lines: list[str] = []
    assert resume(tmp_path, run[:7], say=lines.append).run_id == run
    epochs = [line for line in lines if line.startswith("epoch")]
    assert (
        not epochs[0].startswith("epoch 1/")
        and get_run(store_at(tmp_path), run).state == "finished"
    )


def test_a_checkpoint_of_0_1_0_keeps_the_best_miou_of_its_run(tmp_path):
    run = interrupted(tmp_path)
    checkpoint = torch.load(tmp_path / "runs" / run / "last.ckpt", weights_only=True)
    best = checkpoint["callbacks"]
    assert set(best) == {"Keeper", "Reporter"}  # the names of the classes in 0.1.0
    best["Keeper"]["best_miou"] = best["Reporter"]["best"] = 2.0  # no later epoch can be better
    torch.save(checkpoint, tmp_path / "runs" / run / "last.ckpt")
    before = (tmp_path / "runs" / run / "best.safetensors").read_bytes()
    lines: list[str] = []
    assert resume(tmp_path, run, say=lines.append).run_id == run
    assert (tmp_path / "runs" / run / "best.safetensors").read_bytes() == before
    assert any("(best 2.0000)" in line for line in lines)


def test_a_trial_with_a_damaged_checkpoint_starts_again_with_a_message(tmp_path):
    run = interrupted(tmp_path)
    (tmp_path / "runs" / run / "last.ckpt").write_bytes(b"damaged")
    lines: list[str] = []
    config = compose([*TINY, "hp.num_epochs=4", f"tracking.root='{tmp_path}'"]).config
    assert (
        fit(config, RunRequest(resume=run, restart_if_damaged=True), say=lines.append).run_id == run
    )
    assert any("starts again at epoch 1" in line and "last.ckpt" in line for line in lines)
    assert any(line.startswith("epoch 1/4") for line in lines)


@pytest.mark.parametrize(
    ("state", "tags", "message"),
    [
        (
            "pruned",
            {"segtune.kind": "trial"},
            r"sweep 's' pruned this run after epoch 2 of 2.*as a new run: segtune x",
        ),
        ("infeasible", {"segtune.kind": "trial"}, r"beyond the constraints of sweep 's'"),
        (
            "interrupted",
            {"segtune.kind": "trial"},
            r"a trial of sweep 's'.*start the sweep again with the command",
        ),
        ("finished", {}, r"has finished its 2 epochs.*hp.num_epochs=N \(more than 2\)"),
    ],
)
def test_a_run_that_cannot_be_resumed_is_refused_with_the_reason(
    state, tags, message, tiny_run, store_root, tmp_path
):
    store = store_at(tmp_path)
    tags = {"segtune.sweep": "s", "segtune.kind": "run", "segtune.command": "segtune x", **tags}
    run = RunWriter.create(store, "r", {}, tags)
    recorded = artifact(store_at(store_root), tiny_run.run_id, "config.yaml")
    run.text("config.yaml", recorded.read_text())
    run.metrics({"epoch": 1.0}, 1)
    run.finish(state)
    with pytest.raises(ConfigError, match=message):
        resume(tmp_path, run.run_id)
    assert get_run(store, run.run_id).state == state


def test_a_trial_that_is_resumed_names_the_command_that_started_its_sweep(tmp_path, monkeypatch):
    store = store_at(tmp_path / "mlruns")
    started = command("sweep", "./my roads.yaml", "dataset=folder", "dataset.root=data")
    tags = {
        "segtune.kind": "sweep",
        "segtune.sweep": "s",
        COMMAND: in_folder(str(tmp_path), started),
    }
    RunWriter.create(store, "s", {}, tags)
    run = run_of(tmp_path / "mlruns", compose([*TINY, "tracking.root=mlruns"]).config)
    RunWriter(store, run).tags({"segtune.kind": "trial", "segtune.sweep": "s"})
    for folder, printed in ((tmp_path, started), (tmp_path.parent, f"cd {tmp_path} && {started}")):
        monkeypatch.chdir(folder)
        with pytest.raises(ConfigError) as refused:
            resumable(store, run)
        assert str(refused.value).endswith(f"which resumes it: {printed}")


@pytest.mark.parametrize(
    ("recorded", "num_epochs", "expected"),
    [
        ("segtune train seed=3 hp.num_epochs=5", 80, ["seed=3", "hp.num_epochs=80"]),
        ("/bin/python -m segtune train seed=3", None, ["seed=3"]),
        (
            "segtune train trainer.minutes=5",
            80,
            ["trainer.minutes=5", "trainer.minutes=null", "hp.num_epochs=80"],
        ),
        ("segtune train resume=1234 hp.num_epochs=5", 80, ["resume=RUN", "hp.num_epochs=80"]),
        ("", 80, ["resume=RUN", "hp.num_epochs=80"]),
    ],
)
def test_the_recorded_command_of_an_extended_run_can_be_repeated(
    tmp_path, recorded, num_epochs, expected
):
    tracking = TrackingConfig()
    store = open_store(tracking)
    record = get_run(store, RunWriter.create(store, "r", {}, {COMMAND: recorded}).run_id)
    words = words_of_resumed(record, num_epochs, tracking)
    assert words == [w.replace("RUN", record.id) for w in expected]
    compose(words)


def test_a_finished_run_is_extended_as_if_it_had_been_longer_from_the_start(tmp_path):
    words = [
        *TINY,
        "scheduler=constant",
        "scheduler.warmup=0",
        "trainer.ema_decay=0.9",
        f"tracking.root='{tmp_path}'",
    ]
    whole = segtune.train(*words, "hp.num_epochs=4", say=lambda _: None)
    short = segtune.train(*words, say=lambda _: None)
    lines: list[str] = []
    longer = resume(tmp_path, "last", "hp.num_epochs=4", say=lines.append)
    assert any(f"extends run {short.run_id} from 2 to 4 epochs" in line for line in lines)
    assert longer.run_id != short.run_id and longer.metrics == whole.metrics
    a, b = (load_file(r.segmenter / "model.safetensors") for r in (whole, longer))
    assert all(torch.equal(a[k], b[k]) for k in a)
    store = store_at(tmp_path)
    run = get_run(store, longer.run_id)
    assert run.params["hp.num_epochs"] == "4" and run.tags["segtune.extends"] == short.run_id
    again = compose(recorded_words(run.tags[COMMAND], "train")).config
    assert again.hp["num_epochs"] == 4 and again.dataset.street is not None and again.resume is None
    assert curve(store, run.id, "val/miou") == curve(store, whole.run_id, "val/miou")
    assert get_run(store, short.run_id).params["hp.num_epochs"] == "2"
    with pytest.raises(ConfigError, match="the run has 4 epochs; give more"):
        resume(tmp_path, longer.run_id, "hp.num_epochs=3")
    (tmp_path / "runs" / longer.run_id / "last.ckpt").unlink()
    with pytest.raises(DataError, match=rf"hp.pretrained_weights=runs:/{longer.run_id}"):
        resume(tmp_path, longer.run_id, "hp.num_epochs=6")


def test_an_extension_copies_the_checkpoint_and_every_curve(tmp_path):
    store = store_at(tmp_path)
    classes = ["road", "crack <5%", "a:b", "道路"]
    short, longer = (RunWriter.create(store, name, {}, {}) for name in ("short", "longer"))
    for run in (short, longer):
        run.folder.mkdir(parents=True, exist_ok=True)
    for step in range(2):
        short.metrics({f"val/iou/{c}": step + n / 10 for n, c in enumerate(classes)}, step)
    (short.folder / "last.ckpt").write_bytes(b"before the first validation")  # no best weights yet
    copy_progress(store, get_run(store, short.run_id), longer)
    assert (longer.folder / "last.ckpt").read_bytes() == b"before the first validation"
    for n, name in enumerate(classes):
        assert curve(store, longer.run_id, f"val/iou/{name}") == [(0, n / 10), (1, 1 + n / 10)]
    assert get_run(store, longer.run_id).metrics == get_run(store, short.run_id).metrics


def test_an_extension_that_fails_is_marked_failed(tmp_path):
    run = run_of(
        tmp_path, compose([*TINY, f"tracking.root='{tmp_path}'"]).config
    )  # without a checkpoint
    longer = compose([*TINY, "hp.num_epochs=4", f"tracking.root='{tmp_path}'"]).config
    with ExitStack() as locks, pytest.raises(FileNotFoundError):
        components = prepare(longer, lambda _: None)
        open_run(store_at(tmp_path), components, RunRequest(resume=run), locks, lambda _: None)
    states = {r.id: r.state for r in search_runs(store_at(tmp_path), {"segtune.extends": run})}
    assert list(states.values()) == ["failed"]


def run_of(root: Path, config: RunConfig) -> str:
    """Create a run that was interrupted before its first step; return its id."""
    run = RunWriter.create(
        store_at(root), "r", {"hp.num_epochs": config.hp["num_epochs"]}, {"segtune.kind": "run"}
    )
    run.data("config.yaml", config.model_dump(mode="json"))
    run.finish("interrupted")
    return run.run_id


@pytest.mark.parametrize("parent", [None, "sweep"])
def test_a_resumed_run_keeps_the_number_of_epochs_that_fit_into_its_minutes(tmp_path, parent):
    words = [w for w in TINY if "num_epochs" not in w] + [f"tracking.root='{tmp_path}'"]
    config = compose([*words, "trainer.minutes=1"]).config
    begun = run_of(tmp_path, compose([*words, "hp.num_epochs=7", "trainer.val_every=3"]).config)
    store = store_at(tmp_path)
    resumed = with_recorded_epochs(store, config, begun, parent)
    trainer = resumed.trainer
    assert (resumed.hp["num_epochs"], trainer.val_every, trainer.minutes) == (7, 3, None)
    assert (
        with_recorded_epochs(store, config, None, parent) == config
    )  # a new run measures what fits


def test_a_trial_is_never_extended(tmp_path):
    words = [*TINY, f"tracking.root='{tmp_path}'"]
    begun = run_of(tmp_path, compose(words).config)
    store = store_at(tmp_path)
    components = prepare(compose([*words, "hp.num_epochs=9"]).config, lambda _: None)
    request = RunRequest(parent="sweep", resume=begun)
    with ExitStack() as locks:
        run = open_run(store, components, request, locks, lambda _: None)
        assert run.run_id == begun and len(search_runs(store, {"segtune.kind": "run"})) == 1


def test_the_schedule_of_an_extended_run_spans_all_its_epochs(tmp_path, monkeypatch):
    words = [*TINY, "scheduler=cosine", f"tracking.root='{tmp_path}'"]
    short = segtune.train(*words, say=lambda _: None)
    rates: list[float] = []
    add = _EpochLosses.add
    monkeypatch.setattr(
        _EpochLosses, "add", lambda self, *step: (rates.append(step[2]), add(self, *step))[1]
    )
    longer = resume(tmp_path, short.run_id[:10], "hp.num_epochs=4")
    config = compose([*words, "hp.num_epochs=4"]).config
    base = config.hp["batch_size"] * config.hp["per_item_lrate"]
    assert rates == pytest.approx(
        [base * lr_factor(config.scheduler, step, 8) for step in range(4, 8)]
    )
    assert longer.state == "finished"


def test_a_run_can_be_named_by_the_beginning_of_its_id(store_root, tiny_run):
    root, short = str(store_root), tiny_run.run_id[:8]
    store = store_at(store_root)
    assert get_run(store, f"runs:/{short}").id == tiny_run.run_id
    for named in (short, f"runs:/{short}"):
        assert locate(named, store).run_id == tiny_run.run_id
        assert tiny_run.run_id in json.dumps(segtune.compare(named, root=root).facts)
    done = segtune.evaluate(short, *TINY[:2], f"tracking.root='{root}'", say=lambda _: None)
    assert done.scores.miou == pytest.approx(tiny_run.miou)
    assert segtune.promote(short, "short", *OPEN_GATE, root=root).run_id == tiny_run.run_id
    with pytest.raises(ConfigError, match="is not in the store"):
        get_run(store, "fffffff0" if short != "fffffff0" else "fffffff1")


def test_an_ambiguous_id_is_refused_with_the_candidates(tmp_path, monkeypatch):
    store = store_at(tmp_path)
    first: dict[str, str] = {}
    for number in range(17):  # two of them begin with the same character
        run = RunWriter.create(store, f"r{number}", {}, {}).run_id
        if run[0] in first:
            break
        first[run[0]] = run
    monkeypatch.setattr("segtune.tracking.runs.is_id_prefix", lambda text: True)
    with pytest.raises(ConfigError, match="several ids begin like this") as refused:
        get_run(store, run[0])
    assert run in str(refused.value) and first[run[0]] in str(refused.value)


def test_two_trainings_in_threads_of_one_process_are_refused(tmp_path):
    refused: list[SegtuneError] = []

    def train_beside(epoch: int, _: object) -> bool:
        def second() -> None:
            with pytest.raises(ConfigError, match="another training runs in this process") as error:
                segtune.train(*TINY, f"tracking.root='{tmp_path}'", say=lambda _: None)
            refused.append(error.value)

        if epoch == 0:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
        return False

    config = compose([*TINY, f"tracking.root='{tmp_path}'"]).config
    assert (
        fit(config, hooks=RunHooks(on_epoch=train_beside)).state == "finished" and len(refused) == 1
    )
