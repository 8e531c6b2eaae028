"""Going on with an earlier run: which runs can be resumed, from which checkpoint, and what a longer run takes over."""

import os
import pickle
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from segtune.config.commands import in_folder, recorded_words, tracking_words, word
from segtune.config.compose import compose
from segtune.config.schema import RunConfig, TrackingConfig
from segtune.config.template import parse_template
from segtune.errors import ConfigError, DataError
from segtune.runtime.log import Log
from segtune.tracking.recorded import changed_dataset, recorded_config
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import RunRecord, artifact, curve, get_run, search_runs, sweep_parent
from segtune.tracking.store import Store

LAST = "last.ckpt"
BEST = "best.safetensors"
COMMAND = "segtune.command"  # tag: the command that trains a run, or goes on with a sweep
_PARTS = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step"}


def resumable(
    store: Store, named: str, num_epochs: int | None = None, words: Sequence[str] = ()
) -> tuple[RunRecord, RunConfig]:
    """The run that is to be resumed, with the config that it recorded; `last` names the newest run.

    Args:
        words: `dataset.KEY=VALUE`: where the run's data lies now, and how it is read.
        num_epochs: asks for more epochs than the run has, which a finished run needs, too.

    Raises:
        ConfigError: no such run, or one that cannot be resumed: the message says why, and what to do.
        DataError: its checkpoint is missing or damaged.
    """
    record = get_run(store, _newest(store) if named == "last" else named)
    config = recorded_config(store, record.id)
    config = config.model_copy(update={"dataset": changed_dataset(config.dataset, words)})
    _refuse_state(store, record, config, num_epochs)
    folder = store.root / "runs" / record.id
    if (folder / LAST).exists():
        read_checkpoint(folder)
    elif num_epochs is not None or record.metrics.get("epoch") is not None:
        raise DataError(_without_checkpoint(record, folder))
    if num_epochs is None:
        return record, config
    hp = parse_template(config.template).resolve({**config.hp, "num_epochs": num_epochs})
    return record, config.model_copy(update={"hp": hp})


def as_begun(store: Store, config: RunConfig, resume: str | None, parent: str | None) -> RunConfig:
    """A resumed run's config with the epochs that it began with.

    How many epochs fit into `trainer.minutes` is measured once, and differs from one measurement to the next.
    The config of a sweep's trial is composed again for each attempt, so it still asks for minutes.

    Args:
        resume: id of the run that is resumed; None for a new run.
        parent: run id of the sweep whose trial it is.
    """
    if resume is None or (parent is None and config.trainer.minutes is None):
        return config
    if (
        artifact(store, resume, "config.yaml") is None
    ):  # the run ended before it was recorded, so before any step
        return config
    begun = recorded_config(store, resume)
    own = {"minutes": None, "val_every": begun.trainer.val_every}
    hp = {**config.hp, "num_epochs": begun.hp["num_epochs"]}
    return config.model_copy(update={"hp": hp, "trainer": config.trainer.model_copy(update=own)})


def _newest(store: Store) -> str:
    runs = search_runs(store, {"segtune.kind": "run"})
    if not runs:
        raise ConfigError(
            f"resume=last: there is no run in '{store.uri}'. Start one: segtune train dataset=NAME."
        )
    return runs[-1].id


def _refuse_state(
    store: Store, record: RunRecord, config: RunConfig, num_epochs: int | None
) -> None:
    """Raises ConfigError for a run whose state allows no resumption."""
    own, sweep = int(config.hp["num_epochs"]), record.tags.get("segtune.sweep")
    anew = _anew(record)
    if record.state == "pruned":
        epoch = int(record.metrics.get("epoch", 0)) + 1
        raise ConfigError(
            f"resume={record.id}: sweep '{sweep}' pruned this run after epoch {epoch} of {own}, because its mIoU fell "
            f"behind; a pruned run is not trained further.{anew}"
        )
    if record.state == "infeasible":
        raise ConfigError(
            f"resume={record.id}: its model is beyond the constraints of sweep '{sweep}'.{anew}"
        )
    if record.state == "finished" and num_epochs is None:
        raise ConfigError(
            f"resume={record.id}: that run has finished its {own} epochs. Extend it with hp.num_epochs=N (more than "
            f"{own}), or predict with runs:/{record.id}."
        )
    if record.tags.get("segtune.kind") == "trial" and record.state != "finished":
        resume = _command_of_sweep(store, str(sweep))
        raise ConfigError(
            f"resume={record.id}: it is a trial of sweep '{sweep}', which resumes it: {resume}"
        )
    if num_epochs is not None and num_epochs <= own:
        raise ConfigError(
            f"resume={record.id} hp.num_epochs={num_epochs}: the run has {own} epochs; give more to extend it"
            + ("." if record.state == "finished" else ", or leave hp.num_epochs out to resume it.")
        )


def _command_of_sweep(store: Store, sweep: str) -> str:
    parent = sweep_parent(store, sweep)
    recorded = get_run(store, parent).tags.get(COMMAND) if parent else None
    if recorded is None:  # by an earlier version; the sweep's name need not be that of its file
        return "start the sweep again with the command that it was started with."
    return recorded.removeprefix(in_folder(os.getcwd(), ""))


def _anew(record: RunRecord, *words: str) -> str:
    own = record.tags.get(COMMAND)
    if not own or _resumes(recorded_words(own, "train")):
        return ""
    return f" To train its configuration as a new run: {' '.join([own, *words])}"


def _resumes(words: Sequence[str]) -> bool:
    return any(w.startswith("resume=") for w in words)


def words_of_resumed(
    record: RunRecord, num_epochs: int | None, tracking: TrackingConfig
) -> list[str]:
    """The words to record for a run that goes on with another: those of a new run with the same configuration.

    Args:
        num_epochs: of a run that extends `record`.
        tracking: the store of `record`.
    """
    more = [] if num_epochs is None else [word("hp.num_epochs", num_epochs)]
    words = recorded_words(record.tags.get(COMMAND, ""), "train")
    if not words or _resumes(
        words
    ):  # segtune 0.1.0 recorded the words of an extension as they were given
        return [word("resume", record.id), *more, *tracking_words(tracking)]
    if not more:
        return words
    words = [w for w in words if not w.lstrip("+").startswith("hp.num_epochs=")]
    try:
        timed = compose(words).config.trainer.minutes is not None
    except ConfigError:  # what the words refer to is gone
        timed = False
    return [*words, *(["trainer.minutes=null"] if timed else []), *more]


def _without_checkpoint(record: RunRecord, folder: Path) -> str:
    message = f"resume={record.id}: its checkpoint '{folder / LAST}' is missing."
    if record.state != "finished":
        return f"{message}{_anew(record) or ' Train anew without resume.'}"
    return (
        f"{message} Trials of sweeps keep none after they finish, nor do runs of segtune 0.1.0. Start a new run from "
        f"its weights, with hp.pretrained_weights=runs:/{record.id}."
        f"{_anew(record, f'hp.pretrained_weights=runs:/{record.id}')}"
    )


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The checkpoint in a run's folder; tensors are mapped, not read.

    Raises:
        DataError: it, or the best weights beside it, cannot be read whole.
    """
    path = folder / LAST
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise DataError(_damaged(path, _first_line(error))) from None
    if not isinstance(found, dict) or not set(found) >= _PARTS:
        raise DataError(_damaged(path, "parts of it are missing"))
    if found["epoch"] >= 0 and _has_best(found):
        try:
            with safe_open(folder / BEST, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise DataError(_damaged(folder / BEST, _first_line(error))) from None
    return found


def _has_best(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a validation came before the checkpoint, so that best weights lie beside it."""
    states = checkpoint.get("callbacks", {}).values()
    return any(s.get("best_epoch", -1) >= 0 for s in states if isinstance(s, Mapping))


def check_fits(checkpoint: Mapping[str, Any], model: torch.nn.Module, path: Path) -> None:
    """Compares names and shapes of a checkpoint's tensors with those of what is to be trained.

    Raises:
        DataError: the checkpoint is another model's.
    """
    own, kept = model.state_dict(), checkpoint["state_dict"]
    differ = [
        k
        for k in sorted({*own, *kept})
        if k not in own or k not in kept or own[k].shape != kept[k].shape
    ]
    if differ:
        raise DataError(
            _damaged(
                path,
                f"it is of another model: {len(differ)} of {len(own)} tensors differ, as {differ[0]}",
            )
        )


def _damaged(path: Path, reason: str) -> str:
    return (
        f"'{path}' cannot be used ({reason}). Restore the file, or train anew with the run's own command (see its "
        "config.yaml)."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def usable_checkpoint(folder: Path, model: torch.nn.Module, anew: bool, say: Log) -> Path | None:
    """The checkpoint that a resumed run goes on from; None where it starts again at its first epoch, which is said.

    Args:
        folder: the run's.
        anew: starts again where the checkpoint cannot be used.

    Raises:
        DataError: the checkpoint is damaged, or of another model.
    """
    path = folder / LAST
    if not path.exists():
        say(f"run {folder.name} has no checkpoint here: it starts again at epoch 1")
        return None
    try:
        check_fits(read_checkpoint(folder), model, path)
    except DataError as error:
        if not anew:
            raise
        say(f"run {folder.name} starts again at epoch 1: {error}")
        path.unlink()
        return None
    return path


@contextmanager
def alone_with(store: Store, run_id: str) -> Iterator[None]:
    """Holds a run's folder while the block runs: no two processes train one run.

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
            f"resume={run_id}: another process trains this run. Wait until it ends, or stop it with Ctrl-C there."
        ) from None
    try:
        yield
    finally:
        lock.release()


def extend(
    store: Store, record: RunRecord, run: RunWriter, epochs: tuple[int, int], say: Log
) -> None:
    """Gives a longer run the checkpoint, the best weights and the metrics of the run that it extends.

    Args:
        epochs: of the run, and of the longer one.
    """
    folder = store.root / "runs" / record.id
    shutil.copyfile(folder / LAST, run.folder / LAST)
    if (folder / BEST).exists():  # a run has none before its first validation
        shutil.copyfile(folder / BEST, run.folder / BEST)
    rows: dict[int, dict[str, float]] = {}
    for key in record.metrics:
        if key == "epoch" or key.startswith(("val/", "train/")):
            for step, value in curve(store, record.id, key, as_key=True):
                rows.setdefault(step, {})[key] = value
    for step in sorted(rows):
        run.metrics(rows[step], step, as_keys=True)
    own, wanted = epochs
    say(
        f"run {run.run_id} extends run {record.id} from {own} to {wanted} epochs, from its last checkpoint; the "
        f"schedule is restated over {wanted} epochs"
    )
