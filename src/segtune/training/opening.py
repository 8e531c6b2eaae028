"""Open the run that a training writes to: a new run, a resumed one, or one that extends another."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

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
from segtune.training.ranks import decisions, rank
from segtune.training.request import RunRequest
from segtune.training.resuming import copy_progress, lock_run


def open_run(
    store: Store, components: RunComponents, request: RunRequest, locks: ExitStack, say: Log
) -> RunWriter:
    """Open the run to write to: a new one, a resumed one, or a longer one that extends another.

    Args:
        locks: releases the locks of the run's folder when it closes.

    Raises:
        ConfigError: another process trains the run.
        DataError: the train or val split has changed since the run began.
    """
    if rank():
        return RunWriter(store, decisions().run_id)
    earlier = get_run(store, request.resume) if request.resume else None
    if earlier is None:
        writer = _create_run(store, components, request, locks)
    elif request.parent is not None:
        # a trial is never extended; its sweep compares the data, and its lease keeps others away
        writer = RunWriter.reopen(store, earlier.id)
    else:
        check_data(components, earlier)
        locks.enter_context(lock_run(store, earlier.id))
        if int(earlier.params.get("hp.num_epochs", components.num_epochs)) == components.num_epochs:
            writer = RunWriter.reopen(store, earlier.id)
        else:
            writer = _extend_run(store, components, request, earlier, locks, say)
    writer.folder.mkdir(parents=True, exist_ok=True)
    return writer


def check_data(components: RunComponents, run: RunRecord) -> None:
    """Compare the fingerprints of the splits with those that an earlier run recorded.

    Raises:
        DataError: the train or val split has changed.
    """
    splits = [
        ("train split", "segtune.dataset.train", components.train.fingerprint),
        ("val split", "segtune.dataset", components.val.fingerprint),
    ]
    if components.unlabelled is not None:
        fingerprint = components.unlabelled.fingerprint
        splits.append(("folder of unlabelled images", "segtune.dataset.unlabelled", fingerprint))
    for part, tag, fingerprint in splits:
        recorded = run.tags.get(tag, fingerprint)
        if recorded != fingerprint:
            raise DataError(
                f"the {part} of '{components.source.name}' has changed since run {run.id} "
                f"began (fingerprint {recorded[:12]}, now {fingerprint[:12]}). Restore the data, "
                "or train anew."
            )


def _extend_run(
    store: Store,
    components: RunComponents,
    request: RunRequest,
    earlier: RunRecord,
    locks: ExitStack,
    say: Log,
) -> RunWriter:
    """Create a longer run that starts from the checkpoint of an earlier one."""
    request = replace(
        request,
        name=request.name or earlier.name,
        tags={**request.tags, "segtune.extends": earlier.id},
    )
    writer = _create_run(store, components, request, locks)
    try:
        copy_progress(store, earlier, writer)
    except BaseException:
        writer.finish("failed")
        raise
    epochs = components.num_epochs
    say(
        f"run {writer.run_id} extends run {earlier.id} from {earlier.params['hp.num_epochs']} to "
        f"{epochs} epochs, from its last checkpoint; the schedule now spans {epochs} epochs"
    )
    return writer


def _create_run(
    store: Store, components: RunComponents, request: RunRequest, locks: ExitStack
) -> RunWriter:
    """Create a run, lock its folder, and record config, classes, environment and Git state."""
    config = components.config
    git = git_state(config.tracking.git_diff)
    writer = RunWriter.create(
        store,
        request.name or f"{config.template['name']}-{config.dataset.name}",
        logged_params(config),
        _tags(components, git) | dict(request.tags),
        request.parent,
    )
    writer.folder.mkdir(parents=True, exist_ok=True)
    if request.parent is None:
        locks.enter_context(lock_run(store, writer.run_id))
    log_datasets(writer, components.source, {"train": components.train, "val": components.val})
    writer.data("config.yaml", config.model_dump(mode="json"))
    writer.data("classes.json", components.classes.to_json())
    machine = {"threads": torch.get_num_threads(), "device": device_name(components.device)}
    writer.data("environment.json", environment() | machine)
    if "diff" in git:
        writer.text("git.diff", f"# commit {git['commit']}\n{git['diff']}")
    return writer


def _tags(components: RunComponents, git: Mapping[str, str] | None) -> dict[str, str]:
    tags = {
        "segtune.kind": "run",
        "segtune.dataset": components.val.fingerprint,
        "segtune.dataset.train": components.train.fingerprint,
        "segtune.format": str(components.step_format),
        "segtune.version": __version__,
    }
    if components.unlabelled is not None:
        tags["segtune.dataset.unlabelled"] = components.unlabelled.fingerprint
    if components.config.loss.teacher_hash is not None:
        tags["segtune.teacher"] = components.config.loss.teacher_hash
    if git:
        tags["mlflow.source.git.commit"] = git["commit"]
    if git and "diff" in git:
        tags["segtune.git.dirty"] = str(bool(git["diff"])).lower()
    return tags
