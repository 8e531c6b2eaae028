"""A dataset's entry in the store: one for each split's content, with every read of it and small pictures.

A test split that is read to choose among candidates is none any more; so every read is recorded, with time, run and
purpose, and reports and the gate say how often it was read.
"""

import io
import json
import tempfile
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
from segtune.tracking.runs import RunRecord, artifact, search_runs
from segtune.tracking.store import Store, bookkeeping

_READ = "segtune.read."
_PICTURES = "pictures.zip"


@dataclass(frozen=True)
class Read:
    """One read of a split.

    Attributes:
        time: ISO.
        run: whose segmenter was measured on it.
        purpose: why, in a word or two.
    """

    time: str
    run: str
    purpose: str


def record_read(
    store: Store, dataset: str, split: str, fingerprint: str, run: str, purpose: str
) -> None:
    """Notes that a split is read, before it is.

    Raises:
        StorageError: it cannot be noted.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    told = json.dumps({"time": now, "run": run, "purpose": purpose[:200]})
    key = _READ + uuid.uuid4().hex  # a tag of its own: two at once do not collide

    def note() -> None:
        store.client.set_tag(_entry(store, dataset, split, fingerprint), key, told)

    try:
        with_backoff(note, patience=30.0)
    except Exception as error:
        raise StorageError(
            f"the read of {dataset}'s {split} split cannot be recorded in '{store.uri}' ({error}); nothing "
            "was measured."
        ) from error


def reads(store: Store, fingerprint: str) -> list[Read]:
    """All reads of a split, oldest first."""
    return reads_in(entries(store, _of(fingerprint)))


def reads_of_test(store: Store, dataset: str) -> list[Read]:
    """All reads of the test splits that a dataset of that name has had, oldest first."""
    tags = {"segtune.kind": "dataset", "segtune.split": "test", "segtune.dataset.name": dataset}
    return reads_in(entries(store, tags))


def reads_in(found_entries: Sequence[RunRecord]) -> list[Read]:
    """The reads that entries hold, oldest first."""
    found = []
    for entry in found_entries:
        told = [json.loads(v) for k, v in entry.tags.items() if k.startswith(_READ)]
        found += [Read(str(t["time"]), str(t["run"]), str(t["purpose"])) for t in told]
    return sorted(found, key=lambda r: r.time)


def keep_pictures(
    store: Store,
    dataset: str,
    split: str,
    fingerprint: str,
    draw: Callable[[], Mapping[str, tuple[Any, Any]]],
) -> None:
    """Keeps small images and truths of a split, by name, unless it has them already; only then are they drawn."""
    entry = _entry(store, dataset, split, fingerprint)
    if any(f.path == _PICTURES for f in store.client.list_artifacts(entry)):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _PICTURES
        with zipfile.ZipFile(path, "w") as archive:
            index = {}
            for number, (name, (image, truth)) in enumerate(draw().items()):
                index[name] = number
                archive.writestr(f"{number}.jpg", _encoded(image, "JPEG"))
                archive.writestr(f"{number}.png", _encoded(truth, "PNG"))
            archive.writestr("index.json", json.dumps(index))
        store.client.log_artifact(entry, str(path))


def pictures(
    store: Store, fingerprint: str, names: list[str]
) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Small image (h, w, 3) and truth (h, w) of those of the named images that were kept."""
    for entry in entries(store, _of(fingerprint)):
        path = artifact(store, entry.id, _PICTURES)
        if path is not None:
            with zipfile.ZipFile(path) as archive:
                index = json.loads(archive.read("index.json"))
                return {n: (_decoded(archive, f"{index[n]}.jpg"), _decoded(archive, f"{index[n]}.png"))
                        for n in names if n in index}  # fmt: skip
    return {}


def entries(store: Store, tags: Mapping[str, str]) -> list[RunRecord]:
    """Entries with these tags, wherever they are: segtune 0.1.0 kept them among the runs."""
    places = [store.experiment_id, bookkeeping(store)]
    return search_runs(store, tags, [place for place in places if place])


def _of(fingerprint: str) -> dict[str, str]:
    return {"segtune.kind": "dataset", "segtune.dataset": fingerprint}


def _entry(store: Store, dataset: str, split: str, fingerprint: str) -> str:
    with FileLock(store.root / ".datasets.lock", timeout=120):
        found = entries(store, _of(fingerprint))
        if found:
            return found[0].id
        tags = {"segtune.kind": "dataset", "segtune.dataset": fingerprint, "segtune.split": split}
        tags["segtune.dataset.name"] = dataset
        run = store.client.create_run(
            str(bookkeeping(store, create=True)), run_name=f"{dataset} {split}", tags=tags
        )
        store.client.update_run(run.info.run_id, status="FINISHED")
        return str(run.info.run_id)


def _encoded(pixels: NDArray[np.uint8], form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, quality=85)
    return buffer.getvalue()


def _decoded(archive: zipfile.ZipFile, name: str) -> NDArray[np.uint8]:
    with archive.open(name) as file, Image.open(file) as image:
        return np.array(image)
