"""Measure a segmenter on a split, and save the evidence with its run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segtune.classes import ClassTable
from segtune.config.compose import Composed
from segtune.data.batches.cache import duplicates_in_train
from segtune.data.batches.decoded import Decoded, shapes_of
from segtune.data.batches.learnable import check_countable
from segtune.data.reading.images import resize_image
from segtune.data.source.layout import Source
from segtune.data.sources import open_source
from segtune.errors import ConfigError
from segtune.inference.labeler import RegionLabeler
from segtune.inference.loading import open_model
from segtune.inference.segmenter import Segmenter
from segtune.inference.workflow.workflow import Workflow
from segtune.measure.evidence import Evidence
from segtune.models.cost import device_name, latency, measure_cost
from segtune.models.folder import MANIFEST, WEIGHTS, file_hash
from segtune.runtime.log import Log, silent
from segtune.runtime.retry import is_passing, with_backoff
from segtune.tasks.evidence import SplitFacts, shown_images, shrink
from segtune.tasks.task import Task, task_of_model
from segtune.tracking.datasets import keep_pictures, record_read
from segtune.tracking.names import file_name
from segtune.tracking.recorded import dataset_of
from segtune.tracking.registry import Located, is_active, locate
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import best_run, sweep_runs
from segtune.tracking.store import Store, open_store
from segtune.tracking.versions import add_evidence

_LATENCY_SECONDS = 2.0  # for a latency that people compare


def evaluate_model(
    composed: Composed, model: str, split: str, purpose: str = "evaluate", say: Log = silent
) -> Evidence:
    """Measure a segmenter on a split, and record that the split was read.

    The dataset is the one of the command, else the one that the segmenter's run recorded. The
    evidence is saved with that run; the evidence of a mere folder is only returned.

    Args:
        model: a registered segmenter, a run, a sweep (its best run), or a folder.
        purpose: the reason, for the record.

    Raises:
        ConfigError: the segmenter or the dataset does not exist, or their classes differ.
        DataError: the segmenter's files were changed, or the split cannot be used.
    """
    config, store = composed.config, open_store(composed.config.tracking)
    trials = sweep_runs(store, model)
    located = locate(best_run(trials).id if trials else model, store)
    if located.note:
        say(located.note)
    segmenter = open_model(located.folder, manifest_hash=located.manifest_hash)
    if isinstance(segmenter, Workflow):
        raise ConfigError(
            f"'{model}' is a workflow; evaluate its segmenter and its labelers one by one."
        )
    dataset = dataset_of(composed, store, located.run_id, model)
    task, source = task_of_model(segmenter), open_source(dataset, say)
    check_classes(source, task.classes(source), segmenter, model)
    data = task.load(
        source, split, segmenter.image_size, stored_masks=True, cache=config.cache, say=say
    )
    check_countable(source, split, data, segmenter.classes.names)
    reader = located.run_id or str(located.folder)
    record_read(store, source.name, split, data.fingerprint, reader, purpose)
    evidence = measure_split(task, segmenter, source, split, data, _LATENCY_SECONDS)
    evidence = with_segmenter_hash(evidence, located.folder)
    _save(store, located, evidence, data, say)
    return evidence


def check_classes(
    source: Source, classes: ClassTable, segmenter: Segmenter | RegionLabeler, model: str
) -> None:
    """Check that a dataset has the classes of a segmenter.

    Raises:
        ConfigError: the classes differ.
    """
    if classes.names != segmenter.classes.names:
        raise ConfigError(
            f"dataset '{source.name}' has the classes {', '.join(classes.names)}, but {model} was "
            f"trained on {', '.join(segmenter.classes.names)}. Choose the dataset that it was "
            "trained on."
        )


def _save(store: Store, located: Located, evidence: Evidence, data: Decoded, say: Log) -> None:
    """Save evidence with the run of the segmenter, or with its registered version."""
    if located.run_id and is_active(store, located.run_id):
        run = RunWriter(store, located.run_id)
        save_evidence(run, evidence, data)
        split = evidence.origin.split
        if split != "val":  # the val metrics of a run belong to its epochs
            run.metrics(evidence.metrics(f"{split}/"), 0)
    elif located.version and add_evidence(store, located.version, evidence):
        say(f"the run of {located.pinned} was removed: the version keeps the evidence itself")
    else:
        say(
            f"'{located.folder}' belongs to no run: its evidence is not kept, and reports cannot "
            "show it"
        )


def measure_split(
    task: Task,
    segmenter: Segmenter | RegionLabeler,
    source: Source,
    split: str,
    data: Decoded,
    latency_seconds: float = 0.2,
) -> Evidence:
    """Evidence of a segmenter on a split, with its cost on this device.

    Args:
        latency_seconds: time for which the latency is measured.
    """
    height, width = shapes_of(data.images)[0][:2]
    size, device = (height, width), segmenter.device
    cost = measure_cost(segmenter.model, (1, 3, *size), size, device, ("params_m", "gflops"))
    cost["latency_ms"], cost["latency_p95_ms"] = latency(
        segmenter.model, size, device, latency_seconds
    )
    groups = None
    if source.config.groups is not None:
        groups = [source.group(name) for name in data.names]
    facts = SplitFacts(
        dataset=source.name,
        split=split,
        groups=groups,
        cost=cost,
        device=device_name(device),
        duplicates=duplicates_in_train(source, split),
    )
    return task.evaluate(segmenter, data, facts)


def with_segmenter_hash(evidence: Evidence, folder: Path) -> Evidence:
    """Add the hash of the segmenter's manifest, and the size of its weights, to its evidence."""
    cost = {**evidence.origin.cost, "size_mb": (folder / WEIGHTS).stat().st_size / 1e6}
    origin = replace(evidence.origin, segmenter=file_hash(folder / MANIFEST), cost=cost)
    return replace(evidence, origin=origin)


def save_evidence(run: RunWriter, evidence: Evidence, data: Decoded) -> None:
    """Save evidence with a run, and small pictures of the split with the dataset in the store."""
    origin = evidence.origin
    name = f"{origin.split.replace('/', '_')}-{origin.fingerprint[:12]}"
    folder = run.folder / "evidence" / file_name(name)
    with_backoff(lambda: evidence.save(folder))  # the disk may be full for a while
    run.folder_artifact(folder, f"evidence/{folder.name}")
    run.tags({f"segtune.evidence.{origin.split}": folder.name})

    def pictures() -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        small_pairs = {}
        for index in shown_images(len(data)):
            image, mask = data.images[index], data.masks[index]
            small_pairs[data.names[index]] = shrink(resize_image(image, *mask.shape)), shrink(mask)
        return small_pairs

    try:
        keep_pictures(run.store, origin.dataset, origin.split, origin.fingerprint, pictures)
    except Exception as error:
        if not is_passing(error):  # the next evaluation on this split saves the pictures
            raise
