"""Registered segmenters: versions of a name, each of one run and the same bytes."""

import os
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from segtune.config.commands import command
from segtune.errors import ConfigError, DataError, StorageError
from segtune.models.folder import MANIFEST, file_hash, is_segmenter
from segtune.runtime.retry import is_passing
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
_KNOWN_FILES = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "pyfunc_model.py",
                "registered_model_meta", "artifacts", "metadata", EVIDENCE, RECORD}  # fmt: skip


@dataclass(frozen=True)
class Located:
    """A segmenter folder on this machine, the manifest hash that the registry recorded for it, and whose it is.

    Attributes:
        pinned: leads to the same bytes tomorrow: `models:/NAME/VERSION`, `runs:/ID`, or the folder.
        version: the registered version that was asked for.
        note: which version a name without one stands for, in words.
    """

    folder: Path
    manifest_hash: str | None = None
    run_id: str | None = None
    pinned: str = ""
    version: ModelVersion | None = None
    note: str = ""


def locate(uri: str, store: Store | None = None) -> Located:
    """The folder that a URI leads to: `models:/NAME@champion`, `models:/NAME/3`, `runs:/ID`, a run's id, or a folder.

    The beginning of an id will do where no other run's begins so.

    `models:/NAME` is the champion, or the latest version where there is none; `models:/NAME/latest` is the latest.

    Raises:
        ConfigError: nothing of that name.
        DataError: files in a registered model that do not belong there.
    """
    if store is None or not (uri.startswith(("models:/", "runs:/")) or _is_run_id(uri)):
        folder = Path(os.path.expanduser(uri))
        if not is_segmenter(folder):
            raise ConfigError(
                f"'{uri}' is no segmenter: give models:/NAME@champion, runs:/ID, or a folder that holds {MANIFEST}."
            )
        return Located(folder, pinned=str(folder.absolute()))
    if not uri.startswith("models:/"):
        run = get_run(store, uri.removeprefix("runs:/").split("/")[0])
        found = artifact(store, run.id, "segmenter")
        if found is None:
            raise ConfigError(f"run {run.id} kept no segmenter (its state is '{run.state}').")
        return Located(found, run.tags.get(MANIFEST_HASH), run.id, f"runs:/{run.id}")
    version, note = _version(store, uri)
    path = version_files(store, version)
    strange = sorted({p.name for p in path.iterdir()} - _KNOWN_FILES)
    strange += sorted(p.name for p in (path / "artifacts").iterdir() if p.name != "segmenter")
    if strange:
        raise DataError(
            f"{uri}: '{path}' holds {strange}, which do not belong to a registered segmenter; it is not loaded."
        )
    pinned = f"models:/{version.name}/{version.version}"
    folder, digest = path / "artifacts" / "segmenter", version.tags.get(MANIFEST_HASH)
    return Located(folder, digest, version.run_id, pinned, version, note)


def version_run(store: Store, uri: str) -> RunRecord:
    """The run that a registered version came from, or what the version recorded of it.

    Raises:
        ConfigError: no such version, or one of which nothing is left.
    """
    version, _ = _version(store, uri)
    run = registered_run(store, version)
    if run is None:
        raise ConfigError(
            f"{uri}: its run {version.run_id} was removed, and no record of it is kept."
        )
    return run


def is_active(store: Store, run_id: str) -> bool:
    """Whether a run is in the store and not deleted."""
    run = find_run(store, run_id)
    return run is not None and run.info.lifecycle_stage == "active"


def register(store: Store, run: RunRecord, model: str) -> ModelVersion:
    """The version of this run and these bytes: the one that exists, else a new one.

    Raises:
        ConfigError: the run kept no segmenter, or a name that MLflow does not take.
    """
    client = store.client
    folder = locate(run.id, store).folder
    digest = file_hash(folder / MANIFEST)
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise ConfigError(f"model={model}: {error.message}") from None
    if found := _versions(store, run, model, digest):
        return found[0]
    made = add_version(store, run, model, folder, digest)
    first = _versions(store, run, model, digest)[0]
    if first.version != made.version:  # another machine was first: its version stays
        client.delete_model_version(model, made.version)
    return first


def _versions(store: Store, run: RunRecord, model: str, digest: str) -> list[ModelVersion]:
    """Versions of one run and the same bytes, the oldest first."""
    found = store.client.search_model_versions(f"name = {quoted(model)}")
    same = [v for v in found if v.run_id == run.id and v.tags.get(MANIFEST_HASH) == digest]
    return sorted(same, key=lambda v: int(v.version))


def champion_of(store: Store, model: str) -> ModelVersion | None:
    """The version that is champion; None where there is none."""
    return _by_alias(store, model, CHAMPION)


def _by_alias(store: Store, model: str, alias: str) -> ModelVersion | None:
    try:
        return store.client.get_model_version_by_alias(model, alias)
    except MlflowException as error:
        if is_passing(error):  # a server that is away says nothing about the alias
            raise StorageError(f"the registry '{store.uri}' cannot be read ({error}).") from error
        return None


def latest_version(store: Store, model: str) -> ModelVersion | None:
    """The version of the highest number; None where there is none."""
    found = store.client.search_model_versions(f"name = {quoted(model)}")
    return max(found, key=lambda v: int(v.version), default=None)


def _version(store: Store, uri: str) -> tuple[ModelVersion, str]:
    """A registered version, and which one it is where the URI does not say."""
    name, _, wanted = uri.removeprefix("models:/").partition("/")
    name, _, alias = name.partition("@")
    found, why = None, ""
    if alias:
        found = _by_alias(store, name, alias)
    elif wanted.isdigit():
        found = _numbered(store, name, wanted)
    elif wanted in ("", "latest"):
        found, why = (champion_of(store, name) if not wanted else None), "the champion"
        if found is None:
            found, why = latest_version(store, name), "the latest version"
    if found is not None:
        return found, f"{uri} is version {found.version}, {why}" if why else ""
    known = [m.name for m in store.client.search_registered_models()]
    raise ConfigError(
        f"{uri}: no such registered segmenter in '{store.uri}'; registered: {', '.join(known) or 'none'}. "
        "Write models:/NAME, models:/NAME@champion or models:/NAME/VERSION, or register one: "
        f"{command('promote', 'RUN', model='NAME', tracking=store.tracking)}"
    )


def _numbered(store: Store, name: str, number: str) -> ModelVersion | None:
    try:
        return store.client.get_model_version(name, number)
    except MlflowException as error:
        if is_passing(error):
            raise StorageError(f"the registry '{store.uri}' cannot be read ({error}).") from error
        return None


def _is_run_id(uri: str) -> bool:
    is_whole = len(uri) == 32 and all(c in "0123456789abcdef" for c in uri)
    return (is_whole or is_id_prefix(uri)) and not os.path.exists(uri)
