"""The finder reads folders as they are published, or refuses them with all ways to read them."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtune.api.datasets import check
from segtune.api.importing import Imported, import_dataset
from segtune.errors import ConfigError, DataError
from tests.data.published_sets import SETS, SIZE, by_split, stripes, write_mask, write_photo


def read_masks(folder: Path) -> list[np.ndarray]:
    return [np.array(Image.open(path)) for path in sorted(folder.rglob("masks/**/*.png"))]


def write_pairs(root: Path, pairs: dict[str, str], values: list) -> None:
    for image, mask in pairs.items():
        write_photo(root / image)
        write_mask(root / mask, values)


@pytest.mark.parametrize("name", SETS)
def test_a_published_set_is_read_without_a_key(name, tmp_path):
    published, lines = SETS[name], []
    published.write(tmp_path / "set")
    imported = import_dataset(tmp_path / "set", tmp_path / "out", say=lines.append)
    assert imported.counts == published.counts
    assert imported.classes == published.classes
    masks = read_masks(tmp_path / "out")
    assert len(masks) == len(published.pairs)
    for mask in masks:
        np.testing.assert_array_equal(mask, stripes(published.ids))
    assert set(published.words) <= set(imported.proposal)
    assert any("understood as" in line for line in lines)
    assert imported.picture == tmp_path / "out.samples.png" and imported.picture.is_file()


@pytest.mark.parametrize(
    "name", ["camvid_kaggle", "loveda", "lists_of_trainval", "prefixes", "arrays"]
)
def test_the_printed_words_say_the_same(name, tmp_path):
    SETS[name].write(tmp_path / "set")
    planned = import_dataset(tmp_path / "set", tmp_path / "out", dry_run=True)
    lines: list[str] = []
    again = import_dataset(
        tmp_path / "set", tmp_path / "again", *planned.proposal, format="folder", say=lines.append
    )
    assert (again.counts, again.classes) == (planned.counts, planned.classes)
    assert again.proposal == ()  # every key is given


def test_a_dry_run_writes_nothing_but_samples(tmp_path):
    SETS["loveda"].write(tmp_path / "set")
    planned = import_dataset(tmp_path / "set", tmp_path / "out", dry_run=True)
    assert planned.is_dry and planned.counts == SETS["loveda"].counts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.samples.png", "set"]
    assert not any("next:" in line for line in planned.lines())


def import_words(root: Path, *words: str) -> Imported:
    return import_dataset(root, root.parent / "out", *words)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{0}/1st_manual/{1}_manual1.gif", "{0}/mask/{1}_training_mask.gif"),  # DRIVE
        ("labels-ah/{1}.ah.ppm", "labels-vk/{1}.vk.ppm"),  # STARE
        ("CHASE/{1}_1stHO.png", "CHASE/{1}_2ndHO.png"),
        ("masks/{1}.gif", "masks/{1}.png"),
    ],
)
def test_two_masks_of_each_image_are_refused_with_the_words_of_both(first, second, tmp_path):
    image = {"{0}": "{0}/images/{1}_training.tif", "CHASE": "CHASE/{1}.jpg"}
    image = image.get(first.split("/")[0], "images/{1}.png")
    for index, mask in enumerate((first, second)):
        write_pairs(tmp_path / "set", by_split({"training": 5}, image, mask), [0, 255 - index])
    with pytest.raises(ConfigError, match="2 ways") as caught:
        import_words(tmp_path / "set")
    lines = str(caught.value).split("\n")[1:]
    assert len(lines) == 2 and all("dataset.masks=" in line for line in lines)
    assert not (tmp_path / "out").exists()
    answers: list[list[str]] = []

    def ask(question, shown):
        answers.append(list(shown))
        return 1

    imported = import_dataset(tmp_path / "set", tmp_path / "out", ask=ask)
    assert sum(imported.counts.values()) == 5 and len(answers[0]) == 2


@pytest.mark.parametrize(
    ("masks", "names", "words"),
    [
        ([[0, 1], [0, 255]], None, "dataset.mask_format=binary"),
        ([[1, 2], [1, 2]], "road\ncar\ntree\n", "dataset.reduce_zero_label=true"),
        ([[0, 3, 255], [0, 3]], None, "dataset.label_map={3:1,255:2}"),
    ],
)
def test_values_with_two_meanings_are_refused_with_the_words_of_both(masks, names, words, tmp_path):
    for index, values in enumerate(masks * 3):
        write_photo(tmp_path / f"set/images/{index}.jpg")
        write_mask(tmp_path / f"set/masks/{index}.png", values)
    if names:
        (tmp_path / "set/classes.txt").write_text(names)
    with pytest.raises(ConfigError, match="2 ways") as caught:
        import_words(tmp_path / "set")
    assert words in str(caught.value)
    chosen = next(line for line in str(caught.value).split("\n") if words in line)
    given = [w for w in shlex.split(chosen.partition("   (")[0]) if w.startswith("dataset.")]
    assert sum(import_words(tmp_path / "set", *given).counts.values()) == 6


@pytest.mark.parametrize(
    ("values", "names", "match"),
    [
        ([0, 5], ["classes.txt", "road\ncar\ntree\n"], "two values"),
        ([0, 1, 2, 9], ["classes.txt", "road\ncar\ntree\n"], "ids 0, 1, 2, 9"),
        ([0, 1, 7], ["_classes.csv", "Pixel Value, Class\n0, none\n1, road\n"], "ids 7"),
        (
            [(0, 0, 0), (9, 9, 200), (255, 0, 0)],
            ["class_dict.csv", "name,r,g,b\nroad,255,0,0\nvoid,0,0,0\n"],
            r"\[9, 9, 200\]",
        ),
        ([0], None, "nothing is labelled"),
    ],
)
def test_masks_that_contradict_the_table_of_classes_are_refused(values, names, match, tmp_path):
    write_pairs(tmp_path / "set", by_split({"": 4}, "images/{1}.jpg", "masks/{1}.png"), values)
    if names:
        (tmp_path / "set" / names[0]).write_text(names[1])
    with pytest.raises(DataError, match=match):
        import_words(tmp_path / "set")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "road\ncar\ntree\n"),
        ("labels.txt", "0: road\n1: car\n2: tree\n"),
        ("_classes.csv", "Pixel Value, Class\n0, road\n1, car\n2, tree\n"),
        ("class_dict.csv", "name,r,g,b\nroad,1,2,3\ncar,4,5,6\ntree,7,8,9\n"),
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nroad:1,2,3::\ncar:4,5,6::\ntree:7,8,9::\n",
        ),
        ("label_colors.txt", "1 2 3\troad\n4 5 6\tcar\n7 8 9\ttree\n"),
        ("labels.yaml", "names: [road, car, tree]\n"),
        ("id2label.json", '{"0": "road", "1": "car", "2": "tree"}'),
        ("classes.json", '["road", "car", "tree"]'),
        ("obj.names", "road\ncar\ntree\n"),
    ],
)
def test_classes_are_named_as_a_file_names_them(file, text, tmp_path):
    write_pairs(tmp_path / "set", by_split({"": 4}, "images/{1}.jpg", "masks/{1}.png"), [0, 1, 2])
    (tmp_path / "set" / file).write_text(text)
    assert import_words(tmp_path / "set").classes == ("road", "car", "tree")


def test_a_table_of_settings_names_no_classes(tmp_path):
    write_pairs(tmp_path / "set", by_split({"": 4}, "images/{1}.jpg", "masks/{1}.png"), [0, 1, 2])
    (tmp_path / "set/config.json").write_text('{"width": 32, "height": 24}')
    assert import_words(tmp_path / "set").classes == ("class_0", "class_1", "class_2")


def test_copies_and_crops_of_one_photo_stay_in_one_split(tmp_path):
    names = [f"p{photo}_scaled_{copy}" for photo in range(6) for copy in range(3)]
    for name in names:
        write_photo(tmp_path / f"set/images/{name}.jpg")
        write_mask(tmp_path / f"set/masks/{name}.png", [0, 1])
    imported = import_words(tmp_path / "set")
    assert any(word.startswith("dataset.groups=") for word in imported.proposal)
    splits: dict[str, set[str]] = {}
    for path in (tmp_path / "out/images").rglob("*.jpg"):
        split = path.relative_to(tmp_path / "out/images").parts[0]
        splits.setdefault(path.stem.split("_")[0], set()).add(split)
    assert len(splits) == 6 and all(len(held) == 1 for held in splits.values())


def test_a_wrong_guess_never_replaces_a_given_key(tmp_path):
    SETS["kvasir_seg"].write(tmp_path / "set")
    imported = import_words(tmp_path / "set", "dataset.classes=[skin,polyp]")
    assert imported.classes == ("skin", "polyp")
    assert not any(word.startswith("dataset.classes") for word in imported.proposal)


def test_images_without_a_mask_are_left_out_and_told(tmp_path):
    SETS["kvasir_seg"].write(tmp_path / "set")
    write_photo(tmp_path / "set/Kvasir-SEG/images/lonely.jpg")
    lines: list[str] = []
    imported = import_dataset(tmp_path / "set", tmp_path / "out", say=lines.append)
    assert sum(imported.counts.values()) == 5
    assert any("1 images without a mask" in line and "lonely.jpg" in line for line in lines)


def test_photos_alone_are_refused_with_what_each_reader_looks_for(tmp_path):
    for index in range(3):
        write_photo(tmp_path / f"set/images/{index}.jpg")
    with pytest.raises(DataError, match=r"3 \.jpg in images") as caught:
        import_words(tmp_path / "set")
    assert "coco: no JSON file" in str(caught.value) and "folder: no two" in str(caught.value)


@pytest.mark.parametrize("name", ["camvid_kaggle", "carvana", "massachusetts_roads"])
def test_check_completes_the_keys_of_a_folder_and_says_so(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SETS[name].write(tmp_path / "set")
    checked = check("dataset=folder", f"dataset.root={tmp_path / 'set'}", output=tmp_path / "page")
    assert checked.audit.source.classes.names == SETS[name].classes
    assert "understood as" in checked.lines()[0]
    assert SETS[name].words[0] in checked.audit.source.config.words


def test_a_folder_that_its_keys_describe_is_not_looked_into(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pairs(
        tmp_path / "set",
        by_split({"train": 3, "val": 3}, "images/{0}/{1}.jpg", "masks/{0}/{1}.png"),
        [0, 255],
    )
    words = ("dataset=folder", f"dataset.root={tmp_path / 'set'}", "dataset.classes=[road,car]")
    checked = check(*words, output=tmp_path / "page")
    assert checked.proposal == ()
    assert "mask_0_255" in {finding.kind for finding in checked.audit.findings}


def blurred(path: Path) -> None:
    """A bright disc whose border passes through all levels, as resizing leaves it."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot(rows - 12, columns - 14)
    pixels = np.clip((9 - distance) * 80 + 128, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_blurred_masks_of_one_object_are_read_by_brightness(suffix, tmp_path):
    for index in range(4):
        write_photo(tmp_path / f"set/images/{index}.png")
        blurred(tmp_path / f"set/masks/{index}{suffix}")
    imported = import_words(tmp_path / "set")
    assert "dataset.mask_format=binary" in imported.proposal
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = np.hypot(rows - 12, columns - 14) < 9
    for mask in read_masks(tmp_path / "out"):
        assert np.mean((mask == 1) == disc) > 0.98


@pytest.mark.parametrize("largest", [9, 20, 150])
def test_many_ids_with_void_are_no_blurred_object(largest, tmp_path):
    values = [*range(0, largest + 1, largest // 9), 255]
    write_pairs(tmp_path / "set", by_split({"": 4}, "images/{1}.jpg", "masks/{1}.png"), values)
    ids = [value for value in values if value != 255]
    if ids != list(range(len(ids))):
        with pytest.raises(ConfigError, match="255 is ignored"):
            import_words(tmp_path / "set")
        return
    imported = import_words(tmp_path / "set")
    assert len(imported.classes) == len(ids)
    assert set(np.unique(read_masks(tmp_path / "out"))) == set(values)


def test_two_images_of_one_name_are_refused_and_named(tmp_path):
    SETS["kvasir_seg"].write(tmp_path / "set")
    write_photo(tmp_path / "set/Kvasir-SEG/images/cju0.png")
    with pytest.raises(DataError, match=r"two images for one mask.*cju0"):
        import_words(tmp_path / "set")


def write_splits(root: Path, splits: dict[str, int], form: str) -> None:
    for split, count in splits.items():
        names = [f"{split}{index}" for index in range(count)]
        for name in names:
            write_photo(root / "images" / (split if form == "folders" else "") / f"{name}.jpg")
            write_mask(
                root / "masks" / (split if form == "folders" else "") / f"{name}.png", [0, 1]
            )
        if form == "lists":
            (root / f"{split}.txt").write_text("\n".join(names))


@pytest.mark.parametrize("form", ["folders", "lists"])
@pytest.mark.parametrize("words", [("val", "dev"), ("validation", "valid")])
def test_two_names_of_one_split_are_asked_for_and_lose_no_image(words, form, tmp_path):
    sizes = {"train": 4, words[0]: 2, words[1]: 3}
    write_splits(tmp_path / "set", sizes, form)
    with pytest.raises(ConfigError, match="2 ways") as caught:
        import_words(tmp_path / "set")
    for line in str(caught.value).split("\n")[1:]:
        stated, _, evidence = line.partition("   (")
        imported = import_dataset(
            tmp_path / "set", tmp_path / "out", *shlex.split(stated), overwrite=True
        )
        assert sum(imported.counts.values()) == 9 and imported.counts["train"] == 4
        chosen = next(word for word in words if f",val:{word}" in stated)
        assert imported.counts["val"] == sizes[chosen]
        for split, count in imported.counts.items():
            assert f"{count} {split}" in evidence


def test_two_equal_lists_of_one_split_are_one(tmp_path):
    write_splits(tmp_path / "set", {"train": 4, "val": 2}, "lists")
    (tmp_path / "set/dev.txt").write_text((tmp_path / "set/val.txt").read_text())
    lines: list[str] = []
    imported = import_dataset(tmp_path / "set", tmp_path / "out", say=lines.append)
    assert imported.counts == {"train": 4, "val": 2}
    assert any("names the same images as" in line for line in lines)


@pytest.mark.parametrize(
    ("folder", "places", "counts"),
    [
        ("{}_{}", ("north_dev", "old"), None),  # two sets: asked
        ("{}/{}", ("north_dev", "old"), {"train": 5, "val": 1}),
        ("{}/{}", ("city_train", "city_val"), {"train": 3, "val": 3}),
    ],
)
def test_a_places_name_is_no_split_of_folders_of_masks(folder, places, counts, tmp_path):
    for place in places:
        for number in range(3):
            name = f"{place}_{number}.png"
            write_photo(tmp_path / "set" / folder.format(place, "images") / name)
            write_mask(tmp_path / "set" / folder.format(place, "masks") / name, [0, 1])
    if counts is None:
        with pytest.raises(ConfigError, match="2 ways"):
            import_words(tmp_path / "set")
    else:
        assert import_words(tmp_path / "set").counts == counts
