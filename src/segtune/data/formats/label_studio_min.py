"""Label Studio's JSON-MIN: one flat record for each annotation, as tasks of the full export.

A record holds the task's own fields, and for each tag of the project a list of its values. Ids of
regions are lost: values of several tags belong to one region where they state the same shape.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_OWN_FIELDS = ("annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
_KINDS = {
    "rle": "brush",
    "points": "polygon",
    "vertices": "vector",
    "radiusX": "ellipse",
    "height": "rectangle",
    "width": "keypoint",
}
"""The first of these keys that a value has tells its kind of shape."""


def is_min(content: Any) -> bool:
    """Whether the content of a JSON file is an export in this form."""
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict) or "annotations" in first:
        return False
    return "annotation_id" in first or any(_regions(value) for value in first.values())


def full_tasks(records: list[Mapping[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """The tasks, as the full export has them, each with the index of its first record.

    Records of one task become its annotations.
    """
    tasks: dict[str, tuple[int, dict[str, Any]]] = {}
    for index, record in enumerate(records):
        data = {k: v for k, v in record.items() if isinstance(v, str) and k not in _OWN_FIELDS}
        key = f"id {record['id']}" if "id" in record else str(index)
        _, task = tasks.setdefault(key, (index, {"data": data, "annotations": []}))
        annotation = {"completed_by": record.get("annotator"), "result": _results(record)}
        task["annotations"].append(annotation)
    return list(tasks.values())


def _regions(value: Any) -> list[dict[str, Any]]:
    """The values of a tag that state a shape."""
    rows = value if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, dict) and "original_width" in row]


@dataclass
class _Region:
    """A shape, and the words that the tags of the project give it."""

    shape: dict[str, Any]
    labels: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)


def _results(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results of a record, as the full export has them: one for each label of a shape."""
    regions: dict[str, _Region] = {}
    for values in record.values():
        for value in _regions(values):
            words = {k: v for k, v in value.items() if _is_words(k, v)}
            shape = {k: v for k, v in value.items() if k not in words}
            region = regions.setdefault(json.dumps(shape, sort_keys=True), _Region(shape))
            for key, texts in words.items():
                (region.choices if key == "choices" else region.labels).extend(map(str, texts[:1]))
    results: list[dict[str, Any]] = []
    for number, region in enumerate(regions.values()):
        shape = region.shape
        size = {key: shape.get(key) for key in ("original_width", "original_height")}
        kind = next((_KINDS[key] for key in _KINDS if key in shape), "unknown shape")
        for label in dict.fromkeys(region.labels) or [""]:
            value = {**shape, f"{kind}labels": [label] if label else []}
            results.append({"id": str(number), "type": f"{kind}labels", "value": value, **size})
        if region.choices:
            value = {"choices": region.choices}
            results.append({"id": str(number), "type": "choices", "value": value})
    return results


def _is_words(key: str, value: Any) -> bool:
    return isinstance(value, list) and (key.endswith("labels") or key in ("choices", "text"))
