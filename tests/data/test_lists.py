"""Split lists, and the files that annotations name: found in any usual form, never guessed."""

import shlex
from pathlib import Path

import pytest

from segtune.data.formats.finding import FileFinder
from segtune.data.source.lists import NameFinder, divide_by_lists, resolve_names
from segtune.errors import DataError

LINES = {
    "names": "{name}",
    "file names": "{name}.jpg",
    "capital suffix": "{name}.JPG",
    "mask's suffix": "{name}.png",
    "paths": "./JPEGImages/{name}.jpg",
    "Windows paths": "JPEGImages\\{name}.jpg",
    "pairs": "JPEGImages/{name}.jpg SegmentationClass/{name}.png",
    "pairs with tabs": "{name}.jpg\t{name}.png",
    "pairs with commas": "{name}.jpg,{name}.png",
    "more columns": "{name} 1 1 1",
    "quotes": '"{name}.jpg"',
}


@pytest.mark.parametrize("lines", LINES)
@pytest.mark.parametrize(
    "names", [["a0", "a1", "b"], ["my a", "my b", "my"], ["d/a", "d/b", "e/a"]]
)
def test_a_line_of_a_list_names_its_image_in_any_usual_form(lines, names):
    files = {name: f"{name}.jpg" for name in names}
    if lines in ("pairs", "pairs with tabs", "pairs with commas", "more columns"):
        files = {name: file for name, file in files.items() if " " not in name}
    found = resolve_names([LINES[lines].format(name=name) for name in files], files, Path("l"))
    assert found == list(files)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("images/a.png masks/b.png", ["a"]),
        ("images/gone.png masks/b.png", []),
        ("my photos/b.png", ["b"]),
        ("my photos/a b.png", ["a b"]),
        ("images/a b.png", ["a b"]),
        ("a b.png", ["a b"]),
        ("a 1 1", ["a"]),
    ],
)
def test_a_mask_beside_the_image_or_a_space_in_a_path_changes_no_image(line, names):
    files = {name: f"{name}.png" for name in ("a", "b", "a b")}
    assert NameFinder(files).find(line) == names


def test_lists_that_overlap_or_name_others_are_counted():
    lists = {
        "train": (Path("train.txt"), ["a", "b", "gone"]),
        "val": (Path("val.txt"), ["b.jpg"]),
    }
    splits, notes = divide_by_lists(lists, {name: f"{name}.jpg" for name in "abc"})
    assert splits == {"a": "train", "b": "val"}
    text = "\n".join(notes)
    assert "'train.txt': 1 of 3 ('gone') lines name no labelled image" in text
    assert "1 of 2 ('b') images are in two lists" in text
    assert "1 of 3 ('c') labelled images are in no list" in text


def touch(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.JPG", "a.jpg"),
        ("a.jpg", "A.JPG"),
        ("a.jpg", "a.jpeg"),
        ("images/a.jpg", "a.jpg"),
        ("images/a.jpg", "sub\\images\\a.jpg"),
        ("a b.jpg", "a%20b.jpg"),
        ("a%20b.jpg", "a%20b.jpg"),
        ("über.jpg", "u\u0308ber.jpg"),
    ],
)
def test_a_file_is_found_under_the_name_that_annotations_write(file, text, tmp_path):
    touch(tmp_path, file)
    assert FileFinder(tmp_path).find(text, "a.json imagePath") == tmp_path / file


@pytest.mark.parametrize("text", ["a.jpg", "C:\\x\\a.jpg", "x" * 300 + ".jpg"])
def test_a_file_of_another_kind_is_not_taken_for_the_image(text, tmp_path):
    touch(tmp_path, "a.png", "b/a.bmp")
    with pytest.raises(DataError, match="a.json imagePath is"):
        FileFinder(tmp_path).find(text, "a.json imagePath", near=tmp_path / "b")


@pytest.mark.parametrize("text", ["C:\\me\\set\\in\\a.jpg", "D:/in/a.jpg", "/home/my set/in/a.jpg"])
@pytest.mark.parametrize("file", ["a.jpg", "in/a.jpg", "photos/in/a.jpg"])
def test_a_foreign_path_is_refused_with_the_words_that_replace_it(file, text, tmp_path):
    touch(tmp_path, file, "b.jpg")
    with pytest.raises(DataError, match="absolute path that does not exist here") as caught:
        FileFinder(tmp_path).find(text, "a.json imagePath")
    words = shlex.split(str(caught.value).partition("its beginning: ")[2].partition(" (or")[0])
    relocate = words[0].removeprefix("relocate=")
    assert FileFinder(tmp_path, relocate).find(text, "a.json") == tmp_path / file


@pytest.mark.parametrize("old", ["/home/me/set", "C:\\me\\set", "C:/me/set", "z:"])
def test_relocate_takes_paths_of_any_system(old, tmp_path):
    touch(tmp_path, "deep/a.jpg", "a.jpg")
    finder = FileFinder(tmp_path, relocate=f"{old}:{tmp_path}")
    assert finder.find(f"{old}/deep/a.jpg", "row 1") == tmp_path / "deep" / "a.jpg"
