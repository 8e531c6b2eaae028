"""Fetch files from the store: artifacts of runs, and files of registered versions."""

import functools
import os
import posixpath
import shutil
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from segtune.tracking.client import store_error
from segtune.tracking.store import Store


def fetch(store: Store, uri: str, name: str = "") -> Path | None:
    """Return the local path of a file or folder; None only if the store says that there is none.

    Files that lie on this machine are not copied; others are copied to a folder that is removed
    when this process ends.

    Args:
        uri: folder of artifacts, as MLflow recorded it.
        name: relative path inside; by default the folder itself.

    Raises:
        StorageError: it exists, or may exist, and cannot be fetched.
    """
    try:
        # MLflow's own function for artifacts of runs hides every error
        repository = get_artifact_repository(uri, tracking_uri=store.uri)
        try:
            # MLflow declares no types here
            path = repository.download_artifacts(name, _folder(repository))  # type: ignore[no-untyped-call]  # MLflow's
            return Path(path)
        except Exception:
            if _is_listed(repository, name):
                raise
            return None
    except Exception as error:
        typed = store_error(store.uri, error)
        if typed is error:
            raise
        raise typed from error


def _is_listed(repository: ArtifactRepository, name: str) -> bool:
    parent, base = posixpath.split(name.rstrip("/"))
    listed = [posixpath.basename(info.path) for info in repository.list_artifacts(parent or None)]
    return base in listed if base else bool(listed)


def _folder(repository: ArtifactRepository) -> str | None:
    """Return a new folder to copy to; None for files on this machine, which MLflow copies not."""
    if isinstance(repository, LocalArtifactRepository):
        return None
    return tempfile.mkdtemp(dir=_folder_of_process(os.getpid()))


@functools.cache
def _folder_of_process(process: int) -> str:
    """Create the folder of a process; a forked child has one of its own, and removes it, too."""
    folder = tempfile.mkdtemp(prefix="segtune-")
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=0)
    return folder
