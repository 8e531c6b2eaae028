"""Folder names: unique for each name, and readable."""

import itertools

import pytest

from segtune.config.schema import TrackingConfig
from segtune.runtime.filenames import folder_name
from segtune.tracking.store import open_store

LONG = "a-sweep-whose-name-goes-on-and-on"
ROADS = ":confirmed -confirmed _confirmed /confirmed @1 . -0123abcd".split()
LONG_NAMES = [LONG * 4 + "x", LONG * 4 + "y", LONG[:32] + "-one", LONG[:32] + "-two", "a" * 200]
OTHERS = "Roads ROADS models:/roads@1 models-/roads@1 -roads- . .. con 道路 汽车 é a+b".split()
NAMES = ["roads", *(f"roads{end}" for end in ROADS), "roads confirmed", "", *OTHERS, *LONG_NAMES]


@pytest.fixture(scope="module")
def folders():
    rows = {(n,): folder_name(n) for n in NAMES}
    rows |= {
        pair: folder_name(*pair)
        for pair in itertools.permutations(["a", "b-c", "a-b", "c", "A", "a:b"], 2)
    }
    return rows


def test_no_two_names_share_a_folder_even_where_case_does_not_count(folders):
    lower = [f.casefold() for f in folders.values()]
    assert len(set(lower)) == len(lower)


def test_a_sweep_with_the_name_of_another_sweeps_folder_gets_another_folder(folders):
    for names, folder in folders.items():
        assert folder_name(folder) != folder or folder == "+".join(names)


def test_every_file_system_accepts_the_folder_names(folders):
    for folder in folders.values():
        assert 0 < len(folder) <= 90 and folder.isascii() and folder == folder.strip(" .-")
        assert not set(folder) & set('/\\:*?"<>| ')
    assert folders[("roads",)] == "roads" and folders[("roads:confirmed",)].startswith(
        "roads-confirmed-"
    )


def test_sweeps_with_similar_names_have_separate_reports(tmp_path):
    from segtune.report.compare import compare
    from tests.report.fakes import fake_run

    store = open_store(TrackingConfig(root=str(tmp_path / "store")))
    folders = set()
    for number, name in enumerate((LONG[:32] + "-one", LONG[:32] + "-two")):
        fake_run(store, f"r{number}", sweep=name)
        report = compare(store, [name])
        folders.add(report.html.parent)
        assert [c["name"] for c in report.facts["candidates"]] == [f"r{number}"]
    assert len(folders) == 2 and all((f / "index.html").is_file() for f in folders)
