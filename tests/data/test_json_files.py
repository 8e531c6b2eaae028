"""JSON files are parsed once for all formats that look at them."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from segtune.data.source import files
from segtune.data.source.files import json_parsed_once, json_sketch, read_json
from tests.data.polygon_sets import annotations_of
from tests.data.shape_sets import SHAPE_SETS

JSON_SETS = ("coco", "label_studio", "labelme", "via", "supervisely", "sa1b")


@pytest.mark.parametrize("kept", [10**6, 0])
@pytest.mark.parametrize("name", JSON_SETS)
def test_recognising_and_reading_a_set_parses_each_file_once(tmp_path, monkeypatch, name, kept):
    SHAPE_SETS[name](tmp_path)
    parsed: Counter[str] = Counter()

    def loads(text: str) -> object:
        parsed[text] += 1
        return json.loads(text)

    monkeypatch.setattr(files, "json", SimpleNamespace(loads=loads))
    monkeypatch.setattr(files, "_KEPT_CHARACTERS", kept)
    assert len(annotations_of(tmp_path).images) == 2
    assert set(parsed.values()) <= {1 if kept else 2, 1}  # of large sets, again by the reader
    assert sum(parsed.values()) >= len(list(tmp_path.rglob("*.json")))


def test_a_file_is_read_again_when_the_block_has_ended(tmp_path):
    path = tmp_path / "a.json"
    for number in range(2):
        path.write_text(json.dumps({"a": number}))
        with json_parsed_once():
            assert read_json(path) == json_sketch(path) == {"a": number}
            path.write_text("{}")
            assert read_json(path) == {"a": number}
