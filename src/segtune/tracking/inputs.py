"""Datasets as inputs of a run, in MLflow's own terms."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag

_ATTEMPTS = 5


def log_inputs(client: MlflowClient, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Logs the datasets that a run reads: each row with name, digest, source, context and profile.

    MLflow looks a dataset up and then inserts it. Of two processes that log the same one at the same moment the second
    gets an IntegrityError; its next attempt finds the dataset.
    """
    inputs = [_dataset_input(row) for row in rows]
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return client.log_inputs(run_id, inputs)
        except Exception as error:  # the database layer's own type, or MLflow's around it
            if attempt == _ATTEMPTS or "IntegrityError" not in f"{type(error).__name__}: {error}":
                raise


def _dataset_input(row: Mapping[str, Any]) -> DatasetInput:
    """A dataset as MLflow lists it; its digests hold 36 characters."""
    source, profile = json.dumps({"uri": row["source"]}), json.dumps(row["profile"])
    dataset = Dataset(row["name"], row["digest"][:36], "local", source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", row["context"])])
