"""Fetch files from the store: artifacts of runs, and files of registered versions."""

import posixpath
import tempfile
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from segtune.errors import DataError
from segtune.runtime.retry import reason_of
from segtune.runtime.temporary import folder_of_process
from segtune.tracking.client import is_absent, store_error
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
        DataError: it is a pipe or a device, which may never end, or a link out of the folder.
    """
    try:
        # MLflow's own function for artifacts of runs hides every error
        repository = get_artifact_repository(uri, tracking_uri=store.uri)
        try:
            # MLflow declares no types here
            path = repository.download_artifacts(name, _folder(repository))  # type: ignore[no-untyped-call]  # MLflow's
        except Exception as error:
            if not _is_listed(repository, name):
                return None
            if isinstance(error, MlflowException) and is_absent(error):  # a link that leads out
                raise DataError(f"'{name}' in '{uri}' is refused: {reason_of(error)}") from None
            raise
        return _readable(Path(path))
    except Exception as error:
        typed = store_error(store.uri, error)
        if typed is error:
            raise
        raise typed from error


def _readable(path: Path) -> Path:
    if not path.is_file() and not path.is_dir():
        raise DataError(f"'{path}' is neither a file nor a folder. Restore it from a copy.")
    return path


def _is_listed(repository: ArtifactRepository, name: str) -> bool:
    parent, base = posixpath.split(name.rstrip("/"))
    listed = [posixpath.basename(info.path) for info in repository.list_artifacts(parent or None)]
    return base in listed if base else bool(listed)


def _folder(repository: ArtifactRepository) -> str | None:
    """Return a new folder to copy to; None for files on this machine, which MLflow copies not."""
    if isinstance(repository, LocalArtifactRepository):
        return None
    return tempfile.mkdtemp(dir=folder_of_process())
