"""More classes than segtune supports: one limit, with its reason, wherever they are named."""

import json

import numpy as np
import pytest
from PIL import Image

from segtune.classes import ClassTable
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.reading.masks import MaskReader
from segtune.errors import ConfigError, DataError
from tests.data.annotation_sets import NAMES, coco_content
from tests.data.polygon_sets import annotations_of


@pytest.mark.parametrize("count", [180, 181, 1203])
def test_more_classes_than_can_be_counted_are_refused_with_the_reason(tmp_path, count):
    content = coco_content(tmp_path)
    names = [{"id": i, "name": f"c{i}"} for i in range(1, count)]
    content["categories"] = names
    for row in content["annotations"]:
        row["category_id"] = 1
    (tmp_path / "a.json").write_text(json.dumps(content))
    reason = "at most 180 are supported, since masks hold ids of 8 bits"
    if count == 180:  # with the background
        assert len(annotations_of(tmp_path).classes) == 180
        return
    with pytest.raises(DataError, match=f"name {count} classes, of which 1 have an area; {reason}"):
        annotations_of(tmp_path)
    with pytest.raises(ConfigError, match=f"lists {count} classes; {reason}.*label_map="):
        ClassTable.parse([f"c{i}" for i in range(count)])


def test_an_id_beyond_the_limit_is_not_offered_as_a_class(tmp_path):
    Image.fromarray(np.full((4, 4), 400, np.uint16)).save(tmp_path / "a.png")
    config = DatasetConfig(name="folder", source="folder", classes=NAMES)
    reader = MaskReader(config, ClassTable.parse(NAMES))
    with pytest.raises(DataError, match=r"label 400 .* at most 180 .* To ignore it: .*\{400:255\}"):
        reader.read((tmp_path / "a.png").read_bytes(), "a.png")
