"""Registered segmenters: versions of a name, each of one run and the same bytes."""

import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import mlflow.artifacts
import mlflow.pyfunc
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from segtune.commands import command
from segtune.errors import ConfigError, DataError
from segtune.models.folder import MANIFEST, file_hash, is_segmenter
from segtune.tracking.runs import RunRecord, artifact, get_run, is_id_prefix, quoted
from segtune.tracking.store import Store

CHAMPION = "champion"
MANIFEST_HASH = "segtune.manifest_sha256"
_PYFUNC_FILES = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "pyfunc_model.py",
                 "registered_model_meta", "artifacts", "metadata"}  # fmt: skip


@dataclass(frozen=True)
class Located:
    """A segmenter folder on this machine, the manifest hash that the registry recorded for it, and whose it is.

    Attributes:
        pinned: leads to the same bytes tomorrow: `models:/NAME/VERSION`, `runs:/ID`, or the folder.
    """

    folder: Path
    manifest_hash: str | None = None
    run_id: str | None = None
    pinned: str = ""


def locate(uri: str, store: Store | None = None) -> Located:
    """The folder that a URI leads to: `models:/NAME@champion`, `models:/NAME/3`, `runs:/ID`, a run's id, or a folder.

    The beginning of an id will do where no other run's begins so.

    Raises:
        ConfigError: nothing of that name.
        DataError: files in a registered model that do not belong there.
    """
    if store is None or not (uri.startswith(("models:/", "runs:/")) or _is_run_id(uri)):
        folder = Path(uri).expanduser()
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
    version = _version(store, uri)
    try:
        source = store.client.get_model_version_download_uri(version.name, version.version)
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, tracking_uri=store.uri))
    except (MlflowException, OSError) as error:
        raise ConfigError(f"{uri}: its files cannot be read ({error}).") from None
    strange = sorted({p.name for p in path.iterdir()} - _PYFUNC_FILES)
    strange += sorted(p.name for p in (path / "artifacts").iterdir() if p.name != "segmenter")
    if strange:
        raise DataError(
            f"{uri}: '{path}' holds {strange}, which do not belong to a registered segmenter; it is not loaded."
        )
    pinned = f"models:/{version.name}/{version.version}"
    return Located(path / "artifacts" / "segmenter", version.tags.get(MANIFEST_HASH), version.run_id, pinned)


def version_run(store: Store, uri: str) -> str:
    """Id of the run that a registered version came from.

    Raises:
        ConfigError: no such version.
    """
    return str(_version(store, uri).run_id)


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
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model"
        _save_pyfunc(path, folder)
        client.log_artifacts(run.id, str(path), "model")
    made = client.create_model_version(model, f"runs:/{run.id}/model", run.id, tags={MANIFEST_HASH: digest})
    first = _versions(store, run, model, digest)[0]
    if first.version != made.version:  # another machine was first: its version stays
        client.delete_model_version(model, made.version)
    return first


def _versions(store: Store, run: RunRecord, model: str, digest: str) -> list[ModelVersion]:
    """Versions of one run and the same bytes, the oldest first."""
    found = store.client.search_model_versions(f"name = {quoted(model)}")
    same = [v for v in found if v.run_id == run.id and v.tags.get(MANIFEST_HASH) == digest]
    return sorted(same, key=lambda v: int(v.version))


def _save_pyfunc(path: Path, segmenter: Path) -> None:
    """MLflow's own form around the folder, for `mlflow models serve`: code from a file, requirements spelled out."""
    names = ("segtune", "torch", "timm", "segmentation-models-pytorch", "mlflow")
    with warnings.catch_warnings(record=True):  # recorded, for mlflow lets them through a filter of its own
        warnings.simplefilter("ignore", UserWarning)  # it asks for type hints and an input example, which it lacks
        _save(path, segmenter, names)


def _save(path: Path, segmenter: Path, names: Sequence[str]) -> None:
    mlflow.pyfunc.save_model(
        str(path),
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        artifacts={"segmenter": str(segmenter)},
        pip_requirements=[f"{n}=={metadata.version(n)}" for n in names],
        signature=ModelSignature(
            inputs=Schema([ColSpec(DataType.string, "image")]), outputs=Schema([ColSpec(DataType.string, "regions")])
        ),
    )


def champion_of(store: Store, model: str) -> ModelVersion | None:
    """The version that is champion; None where there is none."""
    try:
        return store.client.get_model_version_by_alias(model, CHAMPION)
    except MlflowException:
        return None


def _version(store: Store, uri: str) -> ModelVersion:
    name = uri.removeprefix("models:/")
    try:
        if "@" in name:
            return store.client.get_model_version_by_alias(*name.split("@", 1))
        if "/" in name:
            return store.client.get_model_version(*name.split("/", 1))
    except MlflowException:
        pass
    known = [m.name for m in store.client.search_registered_models()]
    raise ConfigError(
        f"{uri}: no such registered segmenter in '{store.uri}'; registered: {', '.join(known) or 'none'}. "
        "Write models:/NAME@champion or models:/NAME/VERSION, or register one: "
        f"{command('promote', 'RUN', model='NAME', tracking=store.tracking)}"
    )


def _is_run_id(uri: str) -> bool:
    is_whole = len(uri) == 32 and all(c in "0123456789abcdef" for c in uri)
    return (is_whole or is_id_prefix(uri)) and not os.path.exists(uri)
