"""Opening the run that a training writes to: a new one, one that is resumed, or a longer one that extends another."""

import os
from collections.abc import Mapping
from contextlib import ExitStack

import torch

from segtune import __version__
from segtune.errors import DataError
from segtune.models.cost import device_name
from segtune.runtime.log import Log
from segtune.tracking.provenance import environment, git_state
from segtune.tracking.recording import log_datasets, logged_params
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import RunRecord, get_run
from segtune.tracking.store import Store
from segtune.training.components import RunComponents
from segtune.training.resuming import alone_with, extend

_RANK_RUN = "SEGTUNE_RUN_ID"  # tells the other ranks of a distributed run whose they are


def rank() -> int:
    """Place of this process among those of a distributed run on this machine; 0 where it is alone."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def open_run(
    store: Store, setup: RunComponents, name: str, tags: Mapping[str, str], parent: str | None, resume: str | None,
    held: ExitStack, say: Log,
) -> RunWriter:  # fmt: skip
    """The run to write to: a new one, one that is resumed, or a longer one that takes another's checkpoint over."""
    if rank():
        return RunWriter(store, os.environ[_RANK_RUN])
    record = get_run(store, resume) if resume else None
    own = wanted = int(setup.config.hp["num_epochs"])
    if record and parent is None:
        # a trial is never extended; its sweep answers for the data, and its leases say who trains it
        own = int(record.params.get("hp.num_epochs", wanted))
        check_data(setup, record)
        held.enter_context(alone_with(store, record.id))
    if record and wanted == own:
        run = RunWriter.reopen(store, record.id)
    elif record:
        run = _create_run(
            store, setup, name or record.name, {**tags, "segtune.extends": record.id}, parent
        )
    else:
        run = _create_run(store, setup, name, tags, parent)
    run.folder.mkdir(parents=True, exist_ok=True)
    if parent is None and (record is None or wanted != own):
        held.enter_context(alone_with(store, run.run_id))
    if record and wanted != own:
        try:
            extend(store, record, run, (own, wanted), say)
        except BaseException:
            run.finish("failed")
            raise
    os.environ[_RANK_RUN] = run.run_id
    held.callback(os.environ.pop, _RANK_RUN, None)
    return run


def check_data(setup: RunComponents, run: RunRecord) -> None:
    """Compares the data with what an earlier run saw.

    Raises:
        DataError: its train or val split has changed.
    """
    for split, tag, now in (
        ("train", "segtune.dataset.train", setup.train.fingerprint),
        ("val", "segtune.dataset", setup.val.fingerprint),
    ):
        then = run.tags.get(tag, now)
        if then != now:
            raise DataError(
                f"the {split} split of '{setup.source.name}' has changed since run {run.id} began "
                f"(fingerprint {then[:12]}, now {now[:12]}). Restore the data, or train anew."
            )


def _create_run(
    store: Store, setup: RunComponents, name: str, tags: Mapping[str, str], parent: str | None
) -> RunWriter:
    config, git = setup.config, git_state()
    own = {
        "segtune.kind": "run",
        "segtune.dataset": setup.val.fingerprint,
        "segtune.dataset.train": setup.train.fingerprint,
        "segtune.format": str(setup.how),
        "segtune.version": __version__,
    } | ({"mlflow.source.git.commit": git["commit"]} if git else {})
    own |= {"segtune.git.dirty": str(bool(git["diff"])).lower()} if git else {}
    run = RunWriter.create(
        store,
        name or f"{config.template['name']}-{config.dataset.name}",
        logged_params(config),
        own | dict(tags),
        parent,
    )
    log_datasets(run, setup.source, {"train": setup.train, "val": setup.val})
    run.data("config.yaml", config.model_dump(mode="json"))
    run.data("classes.json", setup.classes.to_json())
    run.data(
        "environment.json",
        environment() | {"threads": torch.get_num_threads(), "device": device_name(setup.device)},
    )
    if git:
        run.text("git.diff", f"# commit {git['commit']}\n{git['diff']}")
    return run
