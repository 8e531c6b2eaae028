"""Registered segmenters: versions of a name, one of them the champion."""

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

from segtune.errors import ConfigError, DataError
from segtune.models.folder import MANIFEST, file_hash, is_segmenter
from segtune.tracking.runs import RunRecord, artifact, get_run
from segtune.tracking.store import Store

CHAMPION = "champion"
_HASH = "segtune.manifest_sha256"
_PYFUNC_FILES = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "pyfunc_model.py",
                 "registered_model_meta", "artifacts", "metadata"}  # fmt: skip


@dataclass(frozen=True)
class Promotion:
    """What `promote` did.

    Attributes:
        moved: whether the champion is this version now.
        reason: in words, with the figures.
    """

    model: str
    version: int
    run_id: str
    moved: bool
    reason: str

    @property
    def uri(self) -> str:
        """The registered version, `models:/NAME/VERSION`."""
        return f"models:/{self.model}/{self.version}"


@dataclass(frozen=True)
class Located:
    """A segmenter folder on this machine, the manifest hash that the registry recorded for it, and whose it is."""

    folder: Path
    manifest_hash: str | None = None
    run_id: str | None = None


def promote(store: Store, run: RunRecord, model: str) -> Promotion:
    """Registers a run's segmenter (once), and makes it champion if its val mIoU beats the present one's.

    Raises:
        ConfigError: the run kept no segmenter, or the champion was measured on other data.
    """
    version = _register(store, run, model)
    number = int(version.version)
    champion = _champion(store, model)
    if champion is None:
        return _move(store, run, model, number, "first version")
    if int(champion.version) == number:
        return Promotion(model, number, run.id, True, "is the champion already")
    present = get_run(store, champion.run_id or "")
    old, new = present.tags.get("segtune.dataset"), run.tags.get("segtune.dataset")
    if old != new:
        raise ConfigError(
            f"model '{model}': the champion (version {champion.version}) was measured on another val split "
            f"({present.params.get('dataset.name')}, {str(old)[:12]}) than run {run.id[:8]} "
            f"({run.params.get('dataset.name')}, {str(new)[:12]}); they cannot be compared. Use another model=NAME."
        )
    figures = f"val mIoU {run.miou or 0:.4f} against {present.miou or 0:.4f} of version {champion.version}"
    if (run.miou or 0.0) > (present.miou or 0.0):
        return _move(store, run, model, number, figures)
    return Promotion(model, number, run.id, False, f"the champion stays: {figures}")


def locate(uri: str, store: Store | None = None) -> Located:
    """The folder that a URI leads to: `models:/NAME@champion`, `models:/NAME/3`, `runs:/ID`, a run's id, or a folder.

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
        return Located(folder)
    if not uri.startswith("models:/"):
        run = get_run(store, uri.removeprefix("runs:/").split("/")[0])
        found = artifact(store, run.id, "segmenter")
        if found is None:
            raise ConfigError(f"run {run.id} kept no segmenter (its state is '{run.state}').")
        return Located(found, run.tags.get(_HASH), run.id)
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
    return Located(path / "artifacts" / "segmenter", version.tags.get(_HASH), version.run_id)


def _register(store: Store, run: RunRecord, model: str) -> ModelVersion:
    """The version of this run and these bytes: the one that exists, else a new one."""
    client = store.client
    folder = locate(run.id, store).folder
    digest = file_hash(folder / MANIFEST)
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise ConfigError(f"model={model}: {error.message}") from None
    for version in client.search_model_versions(f"name = '{model}'"):
        if version.run_id == run.id and version.tags.get(_HASH) == digest:
            return version
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model"
        _save_pyfunc(path, folder)
        client.log_artifacts(run.id, str(path), "model")
    return client.create_model_version(model, f"runs:/{run.id}/model", run.id, tags={_HASH: digest})


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


def _move(store: Store, run: RunRecord, model: str, version: int, reason: str) -> Promotion:
    store.client.set_registered_model_alias(model, CHAMPION, str(version))
    return Promotion(model, version, run.id, True, reason)


def _champion(store: Store, model: str) -> ModelVersion | None:
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
        "Write models:/NAME@champion or models:/NAME/VERSION, or register one: segtune promote RUN model=NAME."
    )


def _is_run_id(uri: str) -> bool:
    return len(uri) == 32 and all(c in "0123456789abcdef" for c in uri) and not os.path.exists(uri)
