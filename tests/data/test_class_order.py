"""`dataset.classes` names the classes of annotations in any order: the same pixels, other ids."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.data.formats.areas import background_id
from tests.data.annotation_sets import EXACT, save_photos


def pixels_by_class(output) -> dict[str, dict[str, np.ndarray]]:
    """Image -> class name -> its pixels."""
    rows = yaml.safe_load((output / "classes.yaml").read_text())["classes"]
    pixels = {}
    for path in sorted((output / "masks").rglob("*.png")):
        ids = np.array(Image.open(path))
        pixels[path.stem] = {row["name"]: ids == n for n, row in enumerate(rows)}
    return pixels


# the ids of a table of pairs are those of dataset.classes
@pytest.mark.parametrize("name", sorted(EXACT.keys() - {"manifest"}))
def test_another_order_of_the_classes_changes_no_pixel(tmp_path, name):
    root = tmp_path / "set"
    EXACT[name](root)
    import_dataset(root, tmp_path / "one")
    expected = pixels_by_class(tmp_path / "one")
    names = list(next(iter(expected.values())))
    import_dataset(root, tmp_path / "two", f"dataset.classes=[{','.join(names[::-1])}]")
    found = pixels_by_class(tmp_path / "two")
    assert list(next(iter(found.values()))) == names[::-1]
    for image, classes in expected.items():
        for class_name, bits in classes.items():
            np.testing.assert_array_equal(found[image][class_name], bits)


@pytest.mark.parametrize("classes", [["background", "crack"], ["crack", "background"]])
def test_the_background_of_one_object_class_is_the_class_of_that_name(tmp_path, classes):
    save_photos(tmp_path / "set", 2)
    region = {"name": "rect", "x": 4, "y": 4, "width": 8, "height": 6}
    rows = {
        f"photo_{n}.png1": {
            "filename": f"photo_{n}.png",
            "size": 1,
            "regions": [{"shape_attributes": region, "region_attributes": {}}],
        }
        for n in range(2)
    }
    (tmp_path / "set" / "via.json").write_text(json.dumps(rows))
    import_dataset(tmp_path / "set", tmp_path / "out", f"dataset.classes=[{','.join(classes)}]")
    for pixels in pixels_by_class(tmp_path / "out").values():
        assert 0 < pixels["crack"].sum() < pixels["background"].sum()


def test_the_background_is_found_at_any_place():
    rows = [{"name": "car"}, {"name": "background", "added": True}]
    assert background_id(rows) == 1
    assert background_id([{"name": "car"}, {"name": "tree"}]) == 0
