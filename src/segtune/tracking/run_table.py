"""MLflow's table of runs: the command that serves it, its address, and its columns."""

import json
import shlex
import shutil
import sys

from mlflow.exceptions import MlflowException

from segtune.errors import StorageError
from segtune.tracking.store import Store

_VIEW_KEY = "segtune"  # names the shared view in the address
_COLUMN_WIDTHS = {
    "metrics.`best/val/miou`": 105,
    "metrics.`test/miou`": 105,
    "params.`template`": 100,
    "attributes.`Dataset`": 150,
    "attributes.`Source`": 100,
    "metrics.`cost/latency_ms`": 105,
    "metrics.`cost/params_m`": 105,
}
"""Columns in order, each with its width in pixels: the most important ones fit into 1440 pixels."""


def run_table(store: Store, port: int = 5000) -> tuple[str, str]:
    """Return the command that serves the table of runs, and the table's address.

    The address opens the table with the best run first and with our columns. MLflow's own default
    is a page for traces of language models. The command is empty for a server; both are empty if
    the store cannot be reached.
    """
    try:
        _share_view(store)
    except (MlflowException, StorageError, OSError):  # a finished result must still be printed
        return "", ""
    return table_command(store, port)


def table_command(store: Store, port: int = 5000) -> tuple[str, str]:
    """Return what `run_table` returns, without storing the columns."""
    page = (
        f"#/experiments/{store.experiment_id}/runs"
        f"?viewStateShareKey={_VIEW_KEY}&workflowType=machine_learning"
    )
    if store.address.startswith(("http://", "https://")):
        return "", f"{store.address.rstrip('/')}/{page}"
    mlflow = ["mlflow"] if shutil.which("mlflow") else [sys.executable, "-m", "mlflow"]
    serve = shlex.join([*mlflow, "ui", "--backend-store-uri", store.address, "--port", str(port)])
    return serve, f"http://127.0.0.1:{port}/{page}"


def _share_view(store: Store) -> None:
    """Store the columns and their order as an experiment tag, where MLflow's page reads them."""
    tag = f"mlflow.sharedViewState.{_VIEW_KEY}"
    tags = store.client.get_experiment(store.experiment_id).tags
    columns = list(_COLUMN_WIDTHS)
    view = json.dumps(
        {
            "selectedColumns": columns,
            "columnOrder": columns,
            "columnWidths": _COLUMN_WIDTHS,
            # sorted by a metric, the table is flat; by time, MLflow folds trials under their sweep
            "orderByKey": columns[0],
            "orderByAsc": False,
        }
    )
    if tags.get(tag) != view:
        store.client.set_experiment_tag(store.experiment_id, tag, view)
    if "mlflow.experimentKind" not in tags:
        store.client.set_experiment_tag(
            store.experiment_id, "mlflow.experimentKind", "custom_model_development"
        )
