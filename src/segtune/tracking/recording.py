"""Log what MLflow shows of a run from its start: parameters, datasets and the machine's load."""

from collections.abc import Mapping
from typing import Any

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from segtune.config.keys import flatten
from segtune.config.schema import RunConfig
from segtune.data.batches.decoded import Decoded
from segtune.data.source.layout import Source
from segtune.tracking.run_writer import RunWriter

_SECTIONS = (
    "hp",
    "loss",
    "optimizer",
    "scheduler",
    "tuning",
    "augment",
    "sampling",
    "trainer",
    "seed",
)


def logged_params(config: RunConfig) -> dict[str, object]:
    """Return the settings that affect training, under their override keys."""
    plain = config.model_dump(mode="json")
    params = {key: value for key, value in flatten(plain) if key.split(".")[0] in _SECTIONS}
    return params | {"template": config.template["name"], "dataset.name": config.dataset.name}


def log_datasets(run: RunWriter, source: Source, splits: Mapping[str, Decoded]) -> None:
    """Log the splits that a run reads as MLflow dataset inputs.

    Each has name, fingerprint, folder and number of images.

    Args:
        splits: by purpose, for example `train`.
    """
    rows: list[dict[str, Any]] = []
    for split, data in splits.items():
        profile = {"images": len(data), "classes": len(source.classes)}
        rows.append(
            {
                "name": source.name,
                "digest": data.fingerprint,
                "source": str(source.root),
                "context": split,
                "profile": profile,
            }
        )
    run.inputs(rows)


def system_monitor(run: RunWriter) -> SystemMetricsMonitor:
    """Return a monitor that logs the machine's load as `system/…` metrics every ten seconds."""
    return SystemMetricsMonitor(  # type: ignore[no-untyped-call]  # MLflow declares no types
        run.run_id, resume_logging=True, tracking_uri=run.store.uri
    )
