"""Log datasets as inputs of a run, in MLflow's own form."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag

_ATTEMPTS = 5
_LONGEST_DIGEST = 36  # characters, MLflow's limit


def log_inputs(client: MlflowClient, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log the datasets that a run reads.

    MLflow looks a dataset up and then inserts it. If two processes log the same dataset at the same
    moment, the second gets an IntegrityError; its next attempt finds the dataset.

    Args:
        rows: each with name, digest, source, context and profile.
    """
    inputs = [_dataset_input(row) for row in rows]
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return client.log_inputs(run_id, inputs)
        except Exception as error:  # MLflow passes on or wraps the database layer's exception
            if attempt == _ATTEMPTS or "IntegrityError" not in f"{type(error).__name__}: {error}":
                raise


def _dataset_input(row: Mapping[str, Any]) -> DatasetInput:
    source, profile = json.dumps({"uri": row["source"]}), json.dumps(row["profile"])
    digest = row["digest"][:_LONGEST_DIGEST]
    dataset = Dataset(row["name"], digest, "local", source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", row["context"])])
