"""What `mlflow models serve` runs for a registered segmenter; segtune itself loads the folder and never this file.

Input: rows with `image`, a file's bytes in base64. Output: rows with `regions`, JSON of the region schema.
"""

import base64
import json
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from segtune.inference.labeler import RegionLabeler
from segtune.inference.loading import open_model


class SegmenterModel(PythonModel):
    """The segmenter or workflow behind MLflow's `predict`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Opens the folder among the model's artifacts."""
        model = open_model(Path(context.artifacts["segmenter"]))
        if isinstance(model, RegionLabeler):
            raise TypeError("a labeler sees no regions by itself: register a workflow that uses it")
        self.segmenter = model

    def predict(
        self, context: PythonModelContext, model_input: Any, params: dict[str, Any] | None = None
    ) -> list[Any]:
        """Regions of each image."""
        rows = []
        for encoded in model_input["image"]:
            segmentation = self.segmenter.segment(base64.b64decode(encoded))
            rows.append({"regions": json.dumps([r.to_json() for r in segmentation.regions])})
        return rows


mlflow.models.set_model(SegmenterModel())
