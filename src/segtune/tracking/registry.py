"""Registered models: numbered versions of a name, each made from one run and its exact bytes."""

import os
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from segtune.config.commands import command
from segtune.errors import ConfigError, DataError
from segtune.models.folder import MANIFEST, file_hash, is_segmenter
from segtune.tracking.client import is_absent
from segtune.tracking.runs import RunRecord, artifact, find_run, get_run, is_id_prefix, quoted
from segtune.tracking.store import Store
from segtune.tracking.versions import (
    EVIDENCE,
    MANIFEST_HASH,
    RECORD,
    add_version,
    registered_run,
    version_files,
)

CHAMPION = "champion"
_ALLOWED_FILES = {
    "MLmodel",
    "conda.yaml",
    "python_env.yaml",
    "requirements.txt",
    "pyfunc_model.py",
    "registered_model_meta",
    "artifacts",
    "metadata",
    EVIDENCE,
    RECORD,
}


@dataclass(frozen=True)
class Located:
    """A segmenter folder on this machine.

    Attributes:
        manifest_hash: sha256 of the manifest, as the registry recorded it.
        pinned: a URI that always leads to these bytes: `models:/NAME/VERSION`, `runs:/ID`, or the
            folder.
        version: the registered version, if the URI leads to one.
        note: the version that was chosen for a URI without a version, in words.
    """

    folder: Path
    manifest_hash: str | None = None
    run_id: str | None = None
    pinned: str = ""
    version: ModelVersion | None = None
    note: str = ""


def locate(uri: str, store: Store | None = None) -> Located:
    """Return the segmenter folder of a URI.

    Args:
        uri: `models:/NAME@champion`, `models:/NAME/3`, `models:/NAME/latest`, `models:/NAME` (the
            champion, or the latest version if there is no champion), `runs:/ID`, a run's id or its
            unique beginning, or a folder.

    Raises:
        ConfigError: the URI leads to no segmenter.
        DataError: a registered model holds unexpected files.
    """
    if store is None or not (uri.startswith(("models:/", "runs:/")) or _is_run_id(uri)):
        return _locate_folder(uri)
    if uri.startswith("models:/"):
        return _locate_version(store, uri)
    run = get_run(store, uri.removeprefix("runs:/").split("/")[0])
    folder = artifact(store, run.id, "segmenter")
    if folder is None:
        raise ConfigError(f"run {run.id} has no segmenter (its state is '{run.state}').")
    return Located(folder, run.tags.get(MANIFEST_HASH), run.id, f"runs:/{run.id}")


def version_run(store: Store, uri: str) -> RunRecord:
    """Return the run of a registered version, or the record of it that the version kept.

    Raises:
        ConfigError: there is no such version, or nothing of its run is left.
    """
    version, _ = _find_version(store, uri)
    run = registered_run(store, version)
    if run is None:
        raise ConfigError(
            f"{uri}: its run {version.run_id} was removed, and no record of the run is left."
        )
    return run


def is_active(store: Store, run_id: str) -> bool:
    """Whether a run is in the store and not deleted."""
    run = find_run(store, run_id)
    return run is not None and run.info.lifecycle_stage == "active"


def register(store: Store, run: RunRecord, model: str) -> ModelVersion:
    """Return the version of this run and its bytes; create it if it does not exist.

    Raises:
        ConfigError: the run has no segmenter, or MLflow refuses the name.
    """
    client = store.client
    folder = locate(run.id, store).folder
    digest = file_hash(folder / MANIFEST)
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise ConfigError(f"model={model}: {error.message}") from None
    existing = _versions_of_run(store, run, model, digest)
    if existing:
        return existing[0]
    added = add_version(store, run, model, folder, digest)
    first = _versions_of_run(store, run, model, digest)[0]
    if first.version != added.version:  # another machine registered it first: its version stays
        client.delete_model_version(model, added.version)
    return first


def champion_of(store: Store, model: str) -> ModelVersion | None:
    """Return the champion of a model; None if it has none."""
    return _version_by_alias(store, model, CHAMPION)


def latest_version(store: Store, model: str) -> ModelVersion | None:
    """Return the version with the highest number; None if there is none."""
    versions = store.client.search_model_versions(f"name = {quoted(model)}")
    return max(versions, key=lambda v: int(v.version), default=None)


def _locate_folder(path: str) -> Located:
    folder = Path(os.path.expanduser(path))
    if not is_segmenter(folder):
        raise ConfigError(
            f"'{path}' is no segmenter: give models:/NAME@champion, runs:/ID, or a folder that "
            f"holds {MANIFEST}."
        )
    return Located(folder, pinned=str(folder.absolute()))


def _locate_version(store: Store, uri: str) -> Located:
    version, note = _find_version(store, uri)
    path = version_files(store, version)
    unexpected = sorted({p.name for p in path.iterdir()} - _ALLOWED_FILES)
    unexpected += sorted(p.name for p in (path / "artifacts").iterdir() if p.name != "segmenter")
    if unexpected:
        raise DataError(
            f"{uri}: '{path}' holds {unexpected}, which are no files of a registered segmenter, "
            "so it is not loaded."
        )
    pinned = f"models:/{version.name}/{version.version}"
    folder, digest = path / "artifacts" / "segmenter", version.tags.get(MANIFEST_HASH)
    return Located(folder, digest, version.run_id, pinned, version, note)


def _versions_of_run(store: Store, run: RunRecord, model: str, digest: str) -> list[ModelVersion]:
    """Return the versions made from one run and the same bytes, oldest first."""
    versions = store.client.search_model_versions(f"name = {quoted(model)}")
    same = [v for v in versions if v.run_id == run.id and v.tags.get(MANIFEST_HASH) == digest]
    return sorted(same, key=lambda v: int(v.version))


def _find_version(store: Store, uri: str) -> tuple[ModelVersion, str]:
    """Return a registered version, and a note if the URI does not name the version itself."""
    name, _, number = uri.removeprefix("models:/").partition("/")
    name, _, alias = name.partition("@")
    version, note = None, ""
    if alias:
        version = _version_by_alias(store, name, alias)
    elif number.isdigit() and len(number) < 10:  # databases hold no larger one
        version = _version_by_number(store, name, number)
    elif not number:
        version, note = champion_of(store, name), "the champion"
    if version is None and not alias and number in ("", "latest"):
        version, note = latest_version(store, name), "the latest version"
    if version is not None:
        return version, f"{uri} is version {version.version}, {note}" if note else ""
    registered = [m.name for m in store.client.search_registered_models()]
    raise ConfigError(
        f"{uri}: no such registered segmenter in '{store.address}'; "
        f"registered: {', '.join(registered) or 'none'}. "
        "Write models:/NAME, models:/NAME@champion or models:/NAME/VERSION, or register one: "
        f"{command('promote', 'RUN', model='NAME', tracking=store.tracking)}"
    )


def _version_by_alias(store: Store, model: str, alias: str) -> ModelVersion | None:
    try:
        return store.client.get_model_version_by_alias(model, alias)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def _version_by_number(store: Store, name: str, number: str) -> ModelVersion | None:
    try:
        return store.client.get_model_version(name, number)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def _is_run_id(uri: str) -> bool:
    is_full_id = len(uri) == 32 and all(c in "0123456789abcdef" for c in uri)
    return (is_full_id or is_id_prefix(uri)) and not os.path.exists(uri)
