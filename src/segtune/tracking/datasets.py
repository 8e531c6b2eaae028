"""The store's entries of datasets: one per split and content, with every read and small pictures.

A test split that is used to choose among candidates is no longer a test split. So every read is
recorded with its time, run and purpose, and reports and the gate state the number of reads.
"""

import io
import json
import uuid
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from segtune.errors import StorageError
from segtune.runtime.retry import with_backoff
from segtune.runtime.temporary import temporary_folder
from segtune.tracking.runs import RunRecord, artifact, search_runs
from segtune.tracking.store import Store, bookkeeping_experiment

_READ_TAG = "segtune.read."
_PICTURES = "pictures.zip"
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Read:
    """One read of a split.

    Attributes:
        time: ISO 8601, in UTC.
        run: id of the run whose segmenter was measured.
        purpose: the reason, in a few words.
    """

    time: str
    run: str
    purpose: str


def record_read(
    store: Store, dataset: str, split: str, fingerprint: str, run: str, purpose: str
) -> None:
    """Record a read of a split, before the split is read.

    Raises:
        StorageError: the read cannot be recorded.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    value = json.dumps({"time": now, "run": run, "purpose": purpose[:200]})
    key = _READ_TAG + uuid.uuid4().hex  # a unique tag: two simultaneous reads do not collide

    def set_tag() -> None:
        store.client.set_tag(_entry_id(store, dataset, split, fingerprint), key, value)

    try:
        with_backoff(set_tag, patience=30.0)
    except Exception as error:
        raise StorageError(
            f"the read of {dataset}'s {split} split cannot be recorded in '{store.address}' "
            f"({error}), so nothing was measured."
        ) from error


def reads(store: Store, fingerprint: str) -> list[Read]:
    """Return all reads of a split, oldest first."""
    return reads_in(entries(store, _entry_tags(fingerprint)))


def reads_of_test(store: Store, dataset: str) -> list[Read]:
    """Return all reads of the test splits of all datasets with this name, oldest first."""
    tags = {"segtune.kind": "dataset", "segtune.split": "test", "segtune.dataset.name": dataset}
    return reads_in(entries(store, tags))


def reads_in(dataset_entries: Sequence[RunRecord]) -> list[Read]:
    """Return the reads that are recorded in these entries, oldest first."""
    recorded = []
    for entry in dataset_entries:
        for key, value in entry.tags.items():
            if key.startswith(_READ_TAG):
                row = json.loads(value)
                recorded.append(Read(str(row["time"]), str(row["run"]), str(row["purpose"])))
    return sorted(recorded, key=lambda r: r.time)


def keep_pictures(
    store: Store,
    dataset: str,
    split: str,
    fingerprint: str,
    draw: Callable[[], Mapping[str, tuple[Any, Any]]],
) -> None:
    """Save small images and truths of a split, unless its entry has them already.

    Args:
        draw: returns (image (h, w, 3), truth (h, w)) by image name; called only if needed.
    """
    entry = _entry_id(store, dataset, split, fingerprint)
    if any(f.path == _PICTURES for f in store.client.list_artifacts(entry)):
        return
    with temporary_folder() as folder:
        path = folder / _PICTURES
        with zipfile.ZipFile(path, "w") as archive:
            index = {}
            for number, (name, (image, truth)) in enumerate(draw().items()):
                index[name] = number
                archive.writestr(f"{number}.jpg", _encoded(image, "JPEG"))
                archive.writestr(f"{number}.png", _encoded(truth, "PNG"))
            archive.writestr("index.json", json.dumps(index))
        store.client.log_artifact(entry, str(path))


def pictures(
    store: Store, fingerprint: str, names: Sequence[str]
) -> dict[str, tuple[Pixels, Pixels]]:
    """Return small image (h, w, 3) and truth (h, w) by name, for the names that were saved."""
    for entry in entries(store, _entry_tags(fingerprint)):
        path = artifact(store, entry.id, _PICTURES)
        if path is not None:
            return _read_pictures(path, names)
    return {}


def entries(store: Store, tags: Mapping[str, str]) -> list[RunRecord]:
    """Return the entries with these tags; segtune 0.1.0 kept entries among the runs."""
    experiments = [store.experiment_id]
    bookkeeping = bookkeeping_experiment(store)
    if bookkeeping:
        experiments.append(bookkeeping)
    return search_runs(store, tags, experiments)


def _entry_tags(fingerprint: str) -> dict[str, str]:
    return {"segtune.kind": "dataset", "segtune.dataset": fingerprint}


def _entry_id(store: Store, dataset: str, split: str, fingerprint: str) -> str:
    """Return the run id of a split's entry; create the entry if there is none."""
    tags = _entry_tags(fingerprint)
    with FileLock(store.root / ".datasets.lock", timeout=120):
        existing = entries(store, tags)
        if existing:
            return existing[0].id
        tags |= {"segtune.split": split, "segtune.dataset.name": dataset}
        experiment = str(bookkeeping_experiment(store, create=True))
        run = store.client.create_run(experiment, run_name=f"{dataset} {split}", tags=tags)
        store.client.update_run(run.info.run_id, status="FINISHED")
        return str(run.info.run_id)


def _read_pictures(path: Path, names: Sequence[str]) -> dict[str, tuple[Pixels, Pixels]]:
    pairs = {}
    with zipfile.ZipFile(path) as archive:
        index = json.loads(archive.read("index.json"))
        for name in names:
            if name in index:
                number = index[name]
                image = _decoded(archive, f"{number}.jpg")
                pairs[name] = (image, _decoded(archive, f"{number}.png"))
    return pairs


def _encoded(pixels: Pixels, image_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, quality=85)
    return buffer.getvalue()


def _decoded(archive: zipfile.ZipFile, name: str) -> Pixels:
    with archive.open(name) as file, Image.open(file) as image:
        return np.array(image)
