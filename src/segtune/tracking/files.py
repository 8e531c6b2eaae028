"""Fetch files from the store: artifacts of runs, and files of registered versions."""

import posixpath
from pathlib import Path

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from segtune.tracking.client import store_error
from segtune.tracking.store import Store


def fetch(store: Store, uri: str, name: str = "") -> Path | None:
    """Return the local path of a file or folder; None only if the store says that there is none.

    Files that lie on this machine are not copied.

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
            path = repository.download_artifacts(name)  # type: ignore[no-untyped-call]  # MLflow's
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
