"""Predicted regions as proposals for a labelling tool, with confidence; the least certain first."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from segtune.classes import ClassTable
from segtune.inference.regions.polygons import one_path
from segtune.inference.regions.regions import Region

LOCAL_FILES = "/data/local-files/?d="
"""Beginning of the address under which Label Studio serves files of its document root."""

_FROM, _TO = "label", "image"  # names of the controls in `label_config`


def certainty(row: Mapping[str, Any]) -> float:
    """Mean confidence of an image's labelled pixels, in [0, 1]; 0 without a region.

    >>> region = {"area_share": 0.25, "mean_confidence": 0.8}
    >>> certainty({"regions": [region, region | {"area_share": 0.75, "mean_confidence": 0.4}]})
    0.5
    """
    shares = [region["area_share"] for region in row["regions"]]
    if not shares:
        return 0.0
    confidences = [region["mean_confidence"] for region in row["regions"]]
    return float(np.average(confidences, weights=shares))


def least_certain_first(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The images in the order in which labelling them helps most."""
    return sorted(rows, key=lambda row: (certainty(row), row["file"]))


def to_label_studio(
    rows: Sequence[Mapping[str, Any]], model: str, prefix: str = LOCAL_FILES
) -> list[dict[str, Any]]:
    """Return Label Studio's tasks with pre-annotations: a polygon for each area of a region.

    A polygon with holes becomes one path; seams of no width lead to the holes.

    Args:
        rows: images of `regions.json`.
        model: name of the model that predicted them.
        prefix: comes before each file's name in the task's data.
    """
    tasks = []
    for row in rows:
        results = []
        for data in row["regions"]:
            region = Region.from_json(data)
            for part, polygon in enumerate(region.polygons):
                points = np.array(one_path(polygon)[:-1]) / (row["width"], row["height"]) * 100
                results.append(_result(row, region, f"{region.id}-{part}", points.tolist()))
        prediction = {"model_version": model, "score": certainty(row), "result": results}
        tasks.append({"data": {_TO: f"{prefix}{row['file']}"}, "predictions": [prediction]})
    return tasks


def _result(
    row: Mapping[str, Any], region: Region, result_id: str, points: list[list[float]]
) -> dict[str, Any]:
    return {
        "id": result_id,
        "type": "polygonlabels",
        "from_name": _FROM,
        "to_name": _TO,
        "original_width": row["width"],
        "original_height": row["height"],
        "image_rotation": 0,
        "score": region.mean_confidence,
        "value": {"points": points, "closed": True, "polygonlabels": [region.concept]},
    }


def label_config(classes: ClassTable) -> str:
    """Return the labelling interface of a Label Studio project, in its XML."""
    labels = []
    for name, color in zip(classes.names, classes.palette, strict=True):
        background = "#{:02x}{:02x}{:02x}".format(*color)
        labels.append(f'    <Label value={quoteattr(name)} background="{background}"/>\n')
    return (
        f'<View>\n  <Image name="{_TO}" value="${_TO}"/>\n'
        f'  <PolygonLabels name="{_FROM}" toName="{_TO}">\n{"".join(labels)}  </PolygonLabels>\n'
        "</View>\n"
    )
