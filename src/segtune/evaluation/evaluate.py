"""Measures a segmenter on a split and keeps the evidence with its run; every read of a split is on record first."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
from segtune.runtime.log import Log
from segtune.runtime.retry import is_passing
from segtune.tasks.pixel_evidence import shown_images, small
from segtune.tasks.task import Task, task_of_model
from segtune.tracking.datasets import keep_pictures, record_read
from segtune.tracking.names import file_name
from segtune.tracking.recorded import dataset_of
from segtune.tracking.registry import is_active, locate
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import best_run, sweep_runs
from segtune.tracking.store import open_store
from segtune.tracking.versions import add_evidence


def evaluate_model(
    composed: Composed, model: str, split: str, purpose: str = "evaluate", say: Log = lambda _: None
) -> Evidence:
    """What a segmenter does on a split: a registered one, a run's, a sweep's best, or a folder.

    The dataset is the one that the command names, else the one that the segmenter's run recorded.

    Evidence is kept with the run that the segmenter came from; of a mere folder it is only returned.

    Raises:
        ConfigError: no such segmenter, no dataset, or the dataset's classes are not its own.
        DataError: files that were changed, or a split that cannot be used.
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
    classes = task.classes(source)
    if classes.names != segmenter.classes.names:
        raise ConfigError(
            f"dataset '{source.name}' has the classes {', '.join(classes.names)}, but {model} was trained on "
            f"{', '.join(segmenter.classes.names)}. Choose the dataset that it was trained on."
        )
    data = task.load(
        source, split, segmenter.image_size, stored_masks=True, cache=config.cache, say=say
    )
    check_countable(source, split, data, classes.names)
    record_read(
        store, source.name, split, data.fingerprint, located.run_id or str(located.folder), purpose
    )
    found = signed(measure(task, segmenter, source, split, data, seconds=2.0), located.folder)
    if located.run_id and is_active(store, located.run_id):
        run = RunWriter(store, located.run_id)
        keep(run, found, data)
        if split != "val":  # those of val are its epochs' and, of what was kept, best/val
            run.metrics(found.metrics(f"{split}/"), 0)
    elif located.version and add_evidence(store, located.version, found):
        say(f"the run of {located.pinned} was removed: the version keeps the evidence itself")
    else:
        say(
            f"'{located.folder}' belongs to no run: its evidence is not kept, and reports cannot show it"
        )
    return found


def measure(
    task: Task,
    segmenter: Segmenter | RegionLabeler,
    source: Source,
    split: str,
    data: Decoded,
    seconds: float = 0.2,
) -> Evidence:
    """Evidence of a segmenter, with what it costs on this device.

    Args:
        seconds: to take its latency for.
    """
    height, width = shapes_of(data.images)[0][:2]
    size, device = (height, width), segmenter.device
    cost = measure_cost(segmenter.model, (1, 3, *size), size, device, ("params_m", "gflops"))
    cost["latency_ms"], cost["latency_p95_ms"] = latency(segmenter.model, size, device, seconds)
    groups = None if source.config.groups is None else [source.group(n) for n in data.names]
    return task.evaluate(
        segmenter, data, dataset=source.name, split_name=split, groups=groups, cost=cost,
        device=device_name(device), duplicates=duplicates_in_train(source, split),
    )  # fmt: skip


def signed(evidence: Evidence, folder: Path) -> Evidence:
    """The evidence with the bytes that it is about: the manifest's hash and the size of the weights."""
    cost = {**evidence.origin.cost, "size_mb": (folder / WEIGHTS).stat().st_size / 1e6}
    return replace(
        evidence, origin=replace(evidence.origin, segmenter=file_hash(folder / MANIFEST), cost=cost)
    )


def keep(run: RunWriter, evidence: Evidence, data: Decoded) -> None:
    """Keeps evidence with its run, and small pictures of the split with the dataset's entry in the store."""
    origin = evidence.origin
    folder = (
        run.folder
        / "evidence"
        / file_name(f"{origin.split.replace('/', '_')}-{origin.fingerprint[:12]}")
    )
    evidence.save(folder)
    run.folder_artifact(folder, f"evidence/{folder.name}")
    run.tags({f"segtune.evidence.{origin.split}": folder.name})

    def pictures() -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        pairs = ((data.names[i], data.images[i], data.masks[i]) for i in shown_images(len(data)))
        return {
            name: (small(resize_image(image, *mask.shape)), small(mask))
            for name, image, mask in pairs
        }

    try:
        keep_pictures(run.store, origin.dataset, origin.split, origin.fingerprint, pictures)
    except Exception as error:
        if not is_passing(error):  # the next run that is measured on the split keeps them
            raise
