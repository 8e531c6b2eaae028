"""What `mlflow models serve` runs for a registered segmenter; segtune itself loads the folder and never this file.

Input: rows with `image`, a file's bytes in base64. Output: rows with `regions`, JSON of the region schema.
"""

import base64
import json
from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from segtune.inference.segmenter import Segmenter


class SegmenterModel(PythonModel):
    """The segmenter behind MLflow's `predict`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Opens the segmenter folder among the model's artifacts."""
        self.segmenter = Segmenter.load(context.artifacts["segmenter"])

    def predict(self, context: PythonModelContext, model_input: Any, params: dict[str, Any] | None = None) -> list[Any]:
        """Regions of each image."""
        rows = []
        for encoded in model_input["image"]:
            segmentation = self.segmenter.segment(base64.b64decode(encoded))
            rows.append({"regions": json.dumps([r.to_json() for r in segmentation.regions])})
        return rows


mlflow.models.set_model(SegmenterModel())
