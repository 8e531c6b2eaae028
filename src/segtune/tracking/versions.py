"""A registered version's own copy: segmenter, evidence and record, which stay when its run is deleted.

MLflow removes the files of a deleted run (`mlflow gc`). So a version's files are those of an MLflow logged model, which
lies beside the runs: the folder that `mlflow models serve` reads, `run.json` and `evidence/`. The files of versions
that segtune 0.1.0 registered lie among those of their run.
"""

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow.artifacts
import mlflow.pyfunc
from mlflow.entities import LoggedModelStatus, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from segtune.errors import ConfigError, StorageError
from segtune.measure.evidence import Evidence
from segtune.runtime.retry import is_passing
from segtune.tracking.names import file_name, key_name
from segtune.tracking.runs import RunRecord, artifact, find_run, record_of
from segtune.tracking.store import Store

MANIFEST_HASH = "segtune.manifest_sha256"
EVIDENCE, RECORD = "evidence", "run.json"
_EVIDENCE_TAG = "segtune.evidence."
_LOGGED = "segtune.logged_model"  # MLflow's own database does not keep a version's model id
_SHOWN = (
    "template",
    "dataset.name",
    "seed",
    "hp.image_size",
    "hp.encoder",
    "hp.width",
    "hp.num_epochs",
)


def add_version(
    store: Store, run: RunRecord, model: str, segmenter: Path, digest: str
) -> ModelVersion:
    """Registers a run's segmenter as a new version, with all that must outlive the run.

    The version's page in MLflow shows its metrics, tags and description, and leads to the run.
    """
    client = store.client
    params = {key: run.params[key] for key in _SHOWN if key in run.params}
    logged = client.create_logged_model(
        store.experiment_id, name=file_name(model).replace("/", "_"), source_run_id=run.id, params=params,
        tags={MANIFEST_HASH: digest, "segtune.model": model}, model_type="segmenter",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        _save_pyfunc(folder, segmenter)
        _copy_record(store, run, folder)
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    # MLflow writes a model's metrics to its run as well: under another name they would change the run's curves
    figures = {k: v for k, v in run.metrics.items() if k.startswith(("best/", "test/", "cost/"))}
    now = int(1000 * (run.started + run.seconds))
    rows = [Metric(key, value, now, 0, model_id=logged.model_id) for key, value in figures.items()]
    client.log_batch(run.id, metrics=rows)
    tags = {MANIFEST_HASH: digest, _LOGGED: logged.model_id, **_version_tags(run)}
    return client.create_model_version(
        model,
        logged.artifact_location,
        run.id,
        tags=tags,
        description=_description(run),
        model_id=logged.model_id,
    )


def refresh_copy(store: Store, version: ModelVersion) -> None:
    """Copies anew what a version keeps of its run, which may have been measured since.

    The copy of a run that was removed or deleted stays as it is: `add_evidence` may have added to it.
    """
    run = find_run(store, str(version.run_id))
    model_id = version.tags.get(_LOGGED)
    if run is None or run.info.lifecycle_stage != "active" or not model_id:
        return
    with tempfile.TemporaryDirectory() as temporary:
        _copy_record(store, record_of(run), Path(temporary))
        store.client.log_model_artifacts(model_id, temporary)


def add_evidence(store: Store, version: ModelVersion, evidence: Evidence) -> bool:
    """Keeps evidence with a version whose run is gone; returns whether that is possible."""
    record = registered_run(store, version)
    model_id = version.tags.get(_LOGGED)
    if not model_id or record is None or record.copy is None:
        return False
    split = evidence.origin.split
    name = file_name(f"{split.replace('/', '_')}-{evidence.origin.fingerprint[:12]}")
    with tempfile.TemporaryDirectory() as temporary:
        evidence.save(Path(temporary) / EVIDENCE / name)
        tags = {**record.tags, key_name(f"{_EVIDENCE_TAG}{split}"): name}
        _write_record(replace(record, tags=tags), Path(temporary))
        store.client.log_model_artifacts(model_id, temporary)
    return True


def registered_run(store: Store, version: ModelVersion) -> RunRecord | None:
    """The run of a version: as it is, or else as the version recorded it; None where nothing of it is left."""
    run = find_run(store, str(version.run_id))
    if run is not None and run.info.lifecycle_stage == "active":
        return record_of(run)
    try:
        folder = version_files(store, version)
        told = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        known = {
            k: told[k]
            for k in ("id", "name", "state", "params", "metrics", "tags", "started", "seconds")
        }
        return RunRecord(**known, copy=folder, uri=f"models:/{version.name}/{version.version}")
    except (ConfigError, OSError, ValueError, KeyError):
        return None if run is None else record_of(run)


def version_files(store: Store, version: ModelVersion) -> Path:
    """The folder of a version's files on this machine.

    Raises:
        ConfigError: they are gone.
        StorageError: the store cannot be reached.
    """
    uri = f"models:/{version.name}/{version.version}"
    try:
        source = store.client.get_model_version_download_uri(version.name, version.version)
        path = Path(
            mlflow.artifacts.download_artifacts(artifact_uri=source, tracking_uri=store.uri)
        )
    except (MlflowException, OSError) as error:
        if is_passing(error):
            raise StorageError(f"{uri}: its files cannot be read ({error}).") from error
        gone = find_run(store, str(version.run_id)) is None
        why = f"its run {version.run_id} was removed, and its files with it" if gone else str(error)
        raise ConfigError(
            f"{uri}: its files cannot be read ({why}). Register another run, or choose another version."
        ) from None
    if not (path / "artifacts" / "segmenter").is_dir():
        raise ConfigError(f"{uri}: '{path}' holds no segmenter any more. Choose another version.")
    return path


def _copy_record(store: Store, run: RunRecord, folder: Path) -> None:
    for tag, name in run.tags.items():
        source = (
            artifact(store, run.id, f"evidence/{name}") if tag.startswith(_EVIDENCE_TAG) else None
        )
        if source is not None:
            shutil.copytree(source, folder / EVIDENCE / name)
    _write_record(run, folder)


def _write_record(run: RunRecord, folder: Path) -> None:
    plain: Mapping[str, Any] = {k: v for k, v in asdict(run).items() if k not in ("copy", "uri")}
    (folder / RECORD).write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")


def _version_tags(run: RunRecord) -> dict[str, str]:
    shown = {"template": run.params.get("template"), "dataset": run.params.get("dataset.name")}
    shown |= {
        "val/miou": f"{run.miou:.4f}" if run.miou is not None else None,
        "sweep": run.tags.get("segtune.sweep"),
    }
    return {key: value for key, value in shown.items() if value}


def _description(run: RunRecord) -> str:
    """What a reader of the registry wants to know first."""
    if run.tags.get("segtune.kind") == "workflow":
        return (
            f"Workflow `{run.params.get('workflow', run.name)}`, with the bytes of all its parts."
        )
    figures = [f"val mIoU {run.miou:.4f}"] if run.miou is not None else []
    for key, words in (("test/miou", "test mIoU {:.4f}"), ("cost/params_m", "{:.2f} M parameters"),
                       ("cost/latency_ms", "{:.1f} ms an image")):  # fmt: skip
        figures += [words.format(run.metrics[key])] if key in run.metrics else []
    made = f"`{run.params.get('template', '?')}` trained on `{run.params.get('dataset.name', '?')}`"
    command = run.tags.get("segtune.command")
    again = f"\n\nTrain it again:\n\n```\n{command}\n```" if command else ""
    return f"{made}: {', '.join(figures)}. Run `{run.name}` ({run.id}).{again}"


def _save_pyfunc(path: Path, segmenter: Path) -> None:
    """MLflow's own form around the folder, for `mlflow models serve`: code from a file, requirements spelled out."""
    names = ("segtune", "torch", "timm", "segmentation-models-pytorch", "mlflow")
    with warnings.catch_warnings(
        record=True
    ):  # recorded, for mlflow lets them through a filter of its own
        warnings.simplefilter(
            "ignore", UserWarning
        )  # it asks for type hints and an input example, which it lacks
        mlflow.pyfunc.save_model(
            str(path),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"segmenter": str(segmenter)},
            pip_requirements=[f"{n}=={metadata.version(n)}" for n in names],
            signature=ModelSignature(
                inputs=Schema([ColSpec(DataType.string, "image")]),
                outputs=Schema([ColSpec(DataType.string, "regions")]),
            ),
        )
