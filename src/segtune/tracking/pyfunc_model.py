"""The code that `mlflow models serve` runs for a registered segmenter; segtune never loads it.

Input: rows with `image`, the bytes of an image file in base64.
Output: rows with `regions`, JSON in the region schema.

Each registered version has a copy of this file, and later versions of segtune run it. So it uses
only public names of segtune.
"""

import base64
import json
from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel, PythonModelContext

import segtune


class SegmenterModel(PythonModel):
    """A segmenter or workflow as an MLflow model."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the segmenter folder among the model's artifacts."""
        model: Any = segtune.load(context.artifacts["segmenter"])
        if not hasattr(model, "segment"):
            raise TypeError("a labeler cannot find regions: register a workflow that uses it")
        self.segmenter = model

    def predict(
        self, context: PythonModelContext, model_input: Any, params: dict[str, Any] | None = None
    ) -> list[Any]:
        """Return the regions of each image."""
        rows = []
        for encoded in model_input["image"]:
            segmentation = self.segmenter.segment(base64.b64decode(encoded))
            rows.append({"regions": json.dumps([r.to_json() for r in segmentation.regions])})
        return rows


mlflow.models.set_model(SegmenterModel())
