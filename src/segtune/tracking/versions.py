"""A registered version's own copy of segmenter, evidence and record, which outlives its run.

`mlflow gc` removes the files of a deleted run. So a version's files are those of an MLflow logged
model, which lies beside the runs: the folder that `mlflow models serve` reads, `run.json` and
`evidence/`. Versions of segtune 0.1.0 lie among the files of their run.
"""

import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.entities import LoggedModelStatus, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from segtune.errors import ConfigError
from segtune.measure.evidence import Evidence
from segtune.runtime.temporary import temporary_folder
from segtune.tracking.files import fetch
from segtune.tracking.names import file_name, key_name
from segtune.tracking.runs import RunRecord, artifact, find_run, record_of
from segtune.tracking.store import Store

MANIFEST_HASH = "segtune.manifest_sha256"
EVIDENCE, RECORD = "evidence", "run.json"
_EVIDENCE_TAG = "segtune.evidence."
# MLflow's own database does not store the id of a version's logged model
_LOGGED_MODEL_TAG = "segtune.logged_model"
_SHOWN_PARAMS = (
    "template",
    "dataset.name",
    "seed",
    "hp.image_size",
    "hp.encoder",
    "hp.width",
    "hp.num_epochs",
)
_SHOWN_METRICS = ("best/", "test/", "cost/")
_RECORD_KEYS = ("id", "name", "state", "params", "metrics", "tags", "started", "seconds")
_SERVING_PACKAGES = ("segtune", "torch", "timm", "segmentation-models-pytorch", "mlflow")


def add_version(
    store: Store, run: RunRecord, model: str, segmenter: Path, digest: str
) -> ModelVersion:
    """Register a run's segmenter as a new version, with a copy of all that must outlive the run.

    The version's page in MLflow shows its metrics, tags and description, and links to the run.
    """
    client = store.client
    logged = client.create_logged_model(
        store.experiment_id,
        name=file_name(model).replace("/", "_"),
        source_run_id=run.id,
        params={key: run.params[key] for key in _SHOWN_PARAMS if key in run.params},
        tags={MANIFEST_HASH: digest, "segtune.model": model},
        model_type="segmenter",
    )
    with temporary_folder() as temporary:
        folder = temporary / "model"
        _save_pyfunc(folder, segmenter)
        _copy_record(store, run, folder)
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    # MLflow also writes these metrics to the run: under other keys they would change its curves
    ended = int(1000 * (run.started + run.seconds))
    metrics = [
        Metric(key, value, ended, 0, model_id=logged.model_id)
        for key, value in run.metrics.items()
        if key.startswith(_SHOWN_METRICS)
    ]
    client.log_batch(run.id, metrics=metrics)
    return client.create_model_version(
        model,
        logged.artifact_location,
        run.id,
        tags={MANIFEST_HASH: digest, _LOGGED_MODEL_TAG: logged.model_id, **_version_tags(run)},
        description=_description(run),
        model_id=logged.model_id,
    )


def refresh_copy(store: Store, version: ModelVersion) -> None:
    """Copy a run's record and evidence to its version again, since they may have changed.

    The copy of a deleted run stays as it is: `add_evidence` may have added to it.
    """
    run = find_run(store, str(version.run_id))
    model_id = version.tags.get(_LOGGED_MODEL_TAG)
    if run is None or run.info.lifecycle_stage != "active" or not model_id:
        return
    with temporary_folder() as temporary:
        _copy_record(store, record_of(run), temporary)
        store.client.log_model_artifacts(model_id, str(temporary))


def add_evidence(store: Store, version: ModelVersion, evidence: Evidence) -> bool:
    """Save evidence with a version whose run is gone; return False if the version has no copy."""
    record = registered_run(store, version)
    model_id = version.tags.get(_LOGGED_MODEL_TAG)
    if not model_id or record is None or record.copy is None:
        return False
    split = evidence.origin.split
    name = file_name(f"{split.replace('/', '_')}-{evidence.origin.fingerprint[:12]}")
    with temporary_folder() as temporary:
        evidence.save(temporary / EVIDENCE / name)
        tags = {**record.tags, key_name(f"{_EVIDENCE_TAG}{split}"): name}
        _write_record(replace(record, tags=tags), temporary)
        store.client.log_model_artifacts(model_id, str(temporary))
    return True


def registered_run(store: Store, version: ModelVersion) -> RunRecord | None:
    """Return a version's run, or the record in the version's copy; None if neither is left."""
    run = find_run(store, str(version.run_id))
    if run is not None and run.info.lifecycle_stage == "active":
        return record_of(run)
    try:
        folder = version_files(store, version)
        data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        fields = {key: data[key] for key in _RECORD_KEYS}
    except (ConfigError, OSError, ValueError, KeyError):
        return None if run is None else record_of(run)
    return RunRecord(**fields, copy=folder, uri=f"models:/{version.name}/{version.version}")


def version_files(store: Store, version: ModelVersion) -> Path:
    """Return the folder of a version's files on this machine.

    Raises:
        ConfigError: the files were removed.
        StorageError: the store cannot be reached.
    """
    uri = f"models:/{version.name}/{version.version}"
    folder = None
    try:
        source = store.client.get_model_version_download_uri(version.name, version.version)
        folder = fetch(store, source)
        reason = f"there are none in '{source}'"
    except MlflowException as error:
        reason = str(error)
    if folder is None:
        if find_run(store, str(version.run_id)) is None:
            reason = f"its run {version.run_id} was removed together with its files"
        raise ConfigError(
            f"{uri}: its files cannot be read ({reason}). "
            "Register another run, or choose another version."
        )
    if not (folder / "artifacts" / "segmenter").is_dir():
        raise ConfigError(f"{uri}: '{folder}' has lost its segmenter. Choose another version.")
    return folder


def _copy_record(store: Store, run: RunRecord, folder: Path) -> None:
    for tag, name in run.tags.items():
        if tag.startswith(_EVIDENCE_TAG):
            source = artifact(store, run.id, f"evidence/{name}")
            if source is not None:
                shutil.copytree(source, folder / EVIDENCE / name)
    _write_record(run, folder)


def _write_record(run: RunRecord, folder: Path) -> None:
    fields: Mapping[str, Any] = asdict(run)
    data = {key: fields[key] for key in _RECORD_KEYS}
    (folder / RECORD).write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def _version_tags(run: RunRecord) -> dict[str, str]:
    tags = {
        "template": run.params.get("template"),
        "dataset": run.params.get("dataset.name"),
        "val/miou": f"{run.miou:.4f}" if run.miou is not None else None,
        "sweep": run.tags.get("segtune.sweep"),
    }
    return {key: value for key, value in tags.items() if value}


def _description(run: RunRecord) -> str:
    """Return the text on a version's page in MLflow."""
    if run.tags.get("segtune.kind") == "workflow":
        name = run.params.get("workflow", run.name)
        return f"Workflow `{name}`, with the bytes of all its parts."
    figures = [f"val mIoU {run.miou:.4f}"] if run.miou is not None else []
    formats = {
        "test/miou": "test mIoU {:.4f}",
        "cost/params_m": "{:.2f} M parameters",
        "cost/latency_ms": "{:.1f} ms per image",
    }
    for key, text in formats.items():
        if key in run.metrics:
            figures.append(text.format(run.metrics[key]))
    template, dataset = run.params.get("template", "?"), run.params.get("dataset.name", "?")
    command = run.tags.get("segtune.command")
    reproduce = f"\n\nTrain it again:\n\n```\n{command}\n```" if command else ""
    return (
        f"`{template}` trained on `{dataset}`: {', '.join(figures)}. "
        f"Run `{run.name}` ({run.id}).{reproduce}"
    )


def _save_pyfunc(path: Path, segmenter: Path) -> None:
    """Save the folder as an MLflow pyfunc model, for `mlflow models serve`."""
    # record=True: MLflow replaces the warning filters while it saves
    with warnings.catch_warnings(record=True):
        # MLflow warns that the model has no type hints and no input example
        warnings.simplefilter("ignore", UserWarning)
        mlflow.pyfunc.save_model(
            str(path),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"segmenter": str(segmenter)},
            pip_requirements=[f"{n}=={metadata.version(n)}" for n in _SERVING_PACKAGES],
            signature=ModelSignature(
                inputs=Schema([ColSpec(DataType.string, "image")]),
                outputs=Schema([ColSpec(DataType.string, "regions")]),
            ),
        )
