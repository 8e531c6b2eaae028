"""Resume an earlier run, or extend it to more epochs."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from filelock import FileLock, Timeout

from segtune.config.commands import in_folder, recorded_words, tracking_words, word
from segtune.config.compose import compose
from segtune.config.schema import RunConfig, TrackingConfig
from segtune.config.template import parse_template
from segtune.errors import ConfigError, DataError
from segtune.tracking.recorded import changed_dataset, recorded_config
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import (
    STUDY_TAG,
    RunRecord,
    artifact,
    curve,
    get_run,
    search_runs,
    sweep_parent,
)
from segtune.tracking.store import Store
from segtune.training.checkpoints import (
    BEST,
    LAST,
    check_resumable,
    saved_checkpoints,
)

COMMAND = "segtune.command"  # tag: the command that trains a run, or resumes a sweep


def resumable(
    store: Store, name: str, num_epochs: int | None = None, words: Sequence[str] = ()
) -> tuple[RunRecord, RunConfig]:
    """Find the run to resume, and read the config that it recorded.

    Args:
        name: id of the run; `last` names the newest run.
        num_epochs: the number of epochs to extend the run to. A finished run can only be extended.
        words: `dataset.KEY=VALUE` overrides, for data that has moved.

    Raises:
        ConfigError: the run does not exist, or cannot be resumed.
        DataError: its checkpoint is missing or damaged.
    """
    record = get_run(store, _newest(store) if name == "last" else name)
    config = recorded_config(store, record.id)
    config = config.model_copy(update={"dataset": changed_dataset(config.dataset, words)})
    _check_state(store, record, config, num_epochs)
    folder = store.root / "runs" / record.id
    if saved_checkpoints(folder):
        check_resumable(folder)
    elif num_epochs is not None or record.metrics.get("epoch") is not None:
        raise DataError(
            f"resume={record.id}: its checkpoint '{folder / LAST}' is missing. "
            + _advice_without_checkpoint(record)
        )
    if num_epochs is None:
        return record, config
    hp = parse_template(config.template).resolve({**config.hp, "num_epochs": num_epochs})
    return record, config.model_copy(update={"hp": hp})


def with_recorded_epochs(
    store: Store, config: RunConfig, resume: str | None, parent: str | None
) -> RunConfig:
    """Give the config of a resumed run the number of epochs and the teacher with which it began.

    Each measurement of how many epochs fit into `trainer.minutes` gives another number, so the
    first one counts. The config of a trial still holds minutes: it is composed for each attempt.

    Args:
        resume: id of the run that is resumed; None for a new run.
        parent: run id of the sweep whose trial the run is.
    """
    if resume is None or (parent is None and config.trainer.minutes is None):
        return config
    if artifact(store, resume, "config.yaml") is None:  # the run ended before its first step
        return config
    begun = recorded_config(store, resume)
    trainer = config.trainer.model_copy(
        update={"minutes": None, "val_every": begun.trainer.val_every}
    )
    hp = {**config.hp, "num_epochs": begun.hp["num_epochs"]}
    teacher = {"teacher": begun.loss.teacher, "teacher_hash": begun.loss.teacher_hash}
    loss = config.loss.model_copy(update=teacher)
    return config.model_copy(update={"hp": hp, "trainer": trainer, "loss": loss})


def _newest(store: Store) -> str:
    runs = search_runs(store, {"segtune.kind": "run"})
    if not runs:
        raise ConfigError(
            f"resume=last: there is no run in '{store.address}'. Start one: "
            "segtune train dataset=NAME."
        )
    return runs[-1].id


def _check_state(
    store: Store, record: RunRecord, config: RunConfig, num_epochs: int | None
) -> None:
    """Raise ConfigError if the state of a run does not allow to resume or extend it."""
    epochs, sweep = int(config.hp["num_epochs"]), record.tags.get("segtune.sweep")
    if record.state == "pruned":
        last_epoch = int(record.metrics.get("epoch", 0)) + 1
        raise ConfigError(
            f"resume={record.id}: sweep '{sweep}' pruned this run after epoch {last_epoch} of "
            f"{epochs}, because its mIoU fell behind; a pruned run is not trained further."
            + _command_for_new_run(record)
        )
    if record.state == "infeasible":
        raise ConfigError(
            f"resume={record.id}: its model is beyond the constraints of sweep '{sweep}'."
            + _command_for_new_run(record)
        )
    if record.state == "finished" and num_epochs is None:
        raise ConfigError(
            f"resume={record.id}: that run has finished its {epochs} epochs. Extend it with "
            f"hp.num_epochs=N (more than {epochs}), or predict with runs:/{record.id}."
        )
    if record.tags.get("segtune.kind") == "trial" and record.state != "finished":
        raise ConfigError(
            f"resume={record.id}: it is a trial of sweep '{sweep}', which resumes it: "
            + _command_of_sweep(store, str(sweep), record.tags.get(STUDY_TAG))
        )
    if num_epochs is not None and num_epochs <= epochs:
        end = "." if record.state == "finished" else ", or leave hp.num_epochs out to resume it."
        raise ConfigError(
            f"resume={record.id} hp.num_epochs={num_epochs}: the run has {epochs} epochs; give "
            f"more to extend it{end}"
        )


def _command_of_sweep(store: Store, sweep: str, study: str | None) -> str:
    """The command that resumes a sweep, as it runs in the current folder."""
    parent = sweep_parent(store, sweep, study)
    recorded = get_run(store, parent).tags.get(COMMAND) if parent else None
    if recorded is None:  # started by segtune 0.1.0; its file may have another name than the sweep
        return "start the sweep again with the command that it was started with."
    return recorded.removeprefix(in_folder(os.getcwd(), ""))


def _command_for_new_run(record: RunRecord, *words: str) -> str:
    """A sentence with the command that trains the configuration as a new run, if it is known."""
    recorded = record.tags.get(COMMAND)
    if not recorded or _is_resumption(recorded_words(recorded, "train")):
        return ""
    return f" To train its configuration as a new run: {' '.join([recorded, *words])}"


def _is_resumption(words: Sequence[str]) -> bool:
    return any(w.startswith("resume=") for w in words)


def words_of_resumed(
    record: RunRecord, num_epochs: int | None, tracking: TrackingConfig
) -> list[str]:
    """The words to record for a resumed or extended run: they start the same training anew.

    Args:
        num_epochs: number of epochs to which `record` is extended.
        tracking: the store of `record`.
    """
    epochs = [] if num_epochs is None else [word("hp.num_epochs", num_epochs)]
    words = recorded_words(record.tags.get(COMMAND, ""), "train")
    if not words or _is_resumption(words):  # segtune 0.1.0 recorded `resume=` for an extended run
        return [word("resume", record.id), *epochs, *tracking_words(tracking)]
    if not epochs:
        return words
    words = [w for w in words if not w.lstrip("+").startswith("hp.num_epochs=")]
    try:
        has_time_limit = compose(words).config.trainer.minutes is not None
    except ConfigError:  # a file that the words name is gone
        has_time_limit = False
    return [*words, *(["trainer.minutes=null"] if has_time_limit else []), *epochs]


def _advice_without_checkpoint(record: RunRecord) -> str:
    if record.state != "finished":
        return _command_for_new_run(record).strip() or "Train anew without resume."
    weights = f"hp.pretrained_weights=runs:/{record.id}"
    return (
        "Trials of sweeps keep none after they finish, nor do runs of early versions. Start a new "
        f"run from its weights, with {weights}.{_command_for_new_run(record, weights)}"
    )


@contextmanager
def lock_run(store: Store, run_id: str) -> Iterator[None]:
    """Lock a run's folder while the block runs, so that only one process trains the run.

    Raises:
        ConfigError: another process trains it.
    """
    folder = store.root / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "train.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"resume={run_id}: another process trains this run. Wait until it ends, or stop it "
            "with Ctrl-C there."
        ) from None
    try:
        yield
    finally:
        lock.release()


def copy_progress(store: Store, earlier: RunRecord, writer: RunWriter) -> None:
    """Copy checkpoint, best weights and metrics of an earlier run to the run that extends it."""
    folder = store.root / "runs" / earlier.id
    for path in saved_checkpoints(folder) or [folder / LAST]:
        shutil.copyfile(path, writer.folder / path.name)
    if (folder / BEST).exists():  # a run has none before its first validation
        shutil.copyfile(folder / BEST, writer.folder / BEST)
    metrics_by_step: dict[int, dict[str, float]] = {}
    for key in earlier.metrics:
        if key == "epoch" or key.startswith(("val/", "train/")):
            for step, value in curve(store, earlier.id, key, as_key=True):
                metrics_by_step.setdefault(step, {})[key] = value
    for step in sorted(metrics_by_step):
        writer.metrics(metrics_by_step[step], step, as_keys=True)
