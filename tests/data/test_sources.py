"""Datasets on disk: faults are named, and a download is kept only if its content is right."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtune.config.compose import compose
from segtune.config.dataset_schema import DatasetConfig, DownloadConfig
from segtune.data.batches.cache import load_split
from segtune.data.source.archives import unpack
from segtune.data.source.download import files_fingerprint
from segtune.data.sources import open_source
from segtune.errors import DataError
from tests.conftest import write_pairs

IMAGE = np.zeros((4, 6, 3), np.uint8)


def folder(root: Path, **options) -> DatasetConfig:
    options = {"classes": ["road", "car"]} | options
    return DatasetConfig(name="roads", source="folder", root=str(root), **options)


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(DataError, match=r"dataset\.root .*nowhere.* does not exist"):
        open_source(folder(tmp_path / "nowhere"))


def test_a_missing_split_names_the_splits_that_exist(tmp_path):
    write_pairs(tmp_path, "train", [(IMAGE, IMAGE[..., 0])])
    with pytest.raises(DataError, match="splits there: train"):
        open_source(folder(tmp_path)).pairs("val")


def test_an_image_without_a_mask_is_named(tmp_path):
    write_pairs(tmp_path, "train", [(IMAGE, IMAGE[..., 0])] * 2)
    (tmp_path / "masks" / "train" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images .*1\.png"):
        open_source(folder(tmp_path)).pairs("train")


def test_an_unknown_id_is_reported_with_file_value_and_pixel_count(tmp_path):
    mask = np.zeros((4, 6), np.uint8)
    mask[:2, :3], mask[3] = 7, 1
    write_pairs(tmp_path, "train", [(IMAGE, mask)])
    with pytest.raises(
        DataError, match=r"0\.png' holds label 7 \(6 px\).*names 0\.\.1.*label_map=\{7:255\}"
    ):
        load_split(open_source(folder(tmp_path)), "train", [64])


def test_label_map_and_ignore_are_applied(tmp_path):
    write_pairs(
        tmp_path, "train", [(np.zeros((1, 4, 3), np.uint8), np.array([[0, 7, 9, 255]], np.uint8))]
    )
    config = folder(tmp_path, label_map={7: 1}, ignore=[9, 255])
    decoded = load_split(open_source(config), "train", [1])
    assert decoded.masks[0].tolist() == [[0, 1, 255, 255]]


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path):
    write_pairs(tmp_path, "train", [(IMAGE, np.zeros((6, 4), np.uint8))])
    with pytest.raises(DataError, match="4 x 6, its image '0.png' is 6 x 4"):
        load_split(open_source(folder(tmp_path)), "train", [64])


def test_the_fingerprint_changes_with_any_pixel_and_not_with_the_folder(tmp_path):
    write_pairs(tmp_path / "a", "train", [(IMAGE, IMAGE[..., 0])])
    write_pairs(tmp_path / "b", "train", [(IMAGE, IMAGE[..., 0])])
    changed = IMAGE.copy()
    changed[0, 0, 0] = 1
    write_pairs(tmp_path / "c", "train", [(changed, IMAGE[..., 0])])
    first, copy, other = (
        load_split(open_source(folder(tmp_path / name)), "train", [64]).fingerprint
        for name in "abc"
    )
    assert first == copy
    assert first != other


@pytest.fixture
def server(tmp_path):
    """A web server on this machine for the files in the test's folder; returns its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def do_GET(self):
            if self.path.startswith("/to-file"):
                self.send_response(302)
                self.send_header("Location", (tmp_path / "set.zip").as_uri())
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        threading.Thread(target=http_server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{http_server.server_address[1]}"
        http_server.shutdown()


def archive(path: Path, server: str, member: str = "") -> DownloadConfig:
    """Write a zip as a code host serves it: one top folder, with other files too."""
    with zipfile.ZipFile(path, "w") as packed:
        for split, name in (("train", "a.png"), ("trainannot", "a.png")):
            file = path.parent / name
            Image.fromarray(IMAGE if split == "train" else IMAGE[..., 0]).save(file)
            packed.write(file, f"repo-main/Set/{split}/{name}")
        packed.writestr("repo-main/docs/readme.txt", b"x")
        if member:
            packed.writestr(member, b"x")
    paths = {"Set/train": "images/train", "Set/trainannot": "masks/train"}
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return DownloadConfig(url=f"{server}/{path.name}", paths=paths, sha256=sha256)


def test_a_download_of_the_expected_content_is_unpacked_inside_its_root(tmp_path, server):
    download = archive(tmp_path / "set.zip", server)
    source = open_source(folder(tmp_path / "root", download=download))
    files = sorted(str(path.relative_to(source.root)) for path in source.root.rglob("*.png"))
    assert files == ["images/train/a.png", "masks/train/a.png"]
    assert not list(source.root.rglob("readme.txt"))
    folders = [source.root / kind / "train" for kind in ("images", "masks")]
    verified = download.model_copy(
        update={"fingerprints": {"train": files_fingerprint(folders)}, "sha256": None}
    )
    assert len(open_source(folder(tmp_path / "again", download=verified)).pairs("train")) == 1


@pytest.mark.parametrize("name", ["evil.pth", "evil.desktop", ".evil.png", "evil", "evil.py"])
def test_a_download_keeps_data_and_no_programs(name, tmp_path, server):
    download = archive(tmp_path / "set.zip", server, f"repo-main/Set/train/{name}")
    source = open_source(folder(tmp_path / "root", download=download))
    files = [path for path in source.root.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"a.png"}


def test_a_download_with_a_member_that_leaves_its_folder_is_refused(tmp_path, server):
    download = archive(tmp_path / "set.zip", server, "repo-main/Set/train/../../../evil.png")
    with pytest.raises(DataError, match=r"member .*evil\.png' would leave"):
        open_source(folder(tmp_path / "root", download=download))
    assert not list(tmp_path.rglob("evil.png")) and not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("paths", {"Set/train": "../../evil"}, "paths names '../../evil'"),
        ("paths", {"Set/train": "images/../../evil"}, "only relative folders"),
        ("paths", {"Set/train": "/tmp/evil"}, "only relative folders"),
        ("paths", {"Set/train": "C:\\evil"}, "only relative folders"),
        ("paths", {"../..": "images/train"}, "paths names '../..'"),
        ("paths", {"/etc": "images/train"}, "paths names '/etc'"),
        ("paths", {"*": "images/train"}, r"paths names '\*'"),
        ("url", "file:///etc/passwd", "no address of a web server"),
        ("url", "ftp://host/set.zip", "no address of a web server"),
        ("url", "data:text/plain,x", "no address of a web server"),
        ("url", "http://me:hush@host/set.zip", "url='http://me@host/set.zip' holds a .* password"),
        ("sha256", None, "neither sha256 nor fingerprints"),
        ("sha256", "0" * 64, "sha256 .*, expected 0000"),
        ("fingerprints", {"train": "0" * 64}, "fingerprint"),
        ("max_gb", 1e-7, "max_gb"),
    ],
)
def test_a_strangers_config_writes_nothing_outside_its_root(key, value, message, tmp_path, server):
    place = tmp_path / "place"
    place.mkdir()
    download = archive(tmp_path / "set.zip", server).model_copy(update={key: value})
    with pytest.raises(DataError, match=message) as refused:
        open_source(folder(place / "root", download=download))
    assert "hush" not in str(refused.value)
    assert not list(place.iterdir()) and not list(tmp_path.rglob("evil*"))
    assert not Path("/tmp/evil").exists()


def test_a_server_that_points_to_a_file_of_this_machine_is_refused(tmp_path, server):
    download = archive(tmp_path / "set.zip", server)
    download = download.model_copy(update={"url": f"{server}/to-file"})
    with pytest.raises(DataError, match="cannot be fetched"):
        open_source(folder(tmp_path / "root", download=download))


def test_a_download_that_cannot_be_fetched_says_what_to_do(tmp_path, server):
    download = DownloadConfig(url=f"{server}/gone.zip", paths={}, sha256="0" * 64)
    with pytest.raises(DataError, match="SEGTUNE_DATA"):
        open_source(folder(tmp_path / "root", download=download))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_small_archive_that_would_fill_the_disk_is_refused(kind, tmp_path):
    path, zeros = tmp_path / f"bomb.{kind}", bytes(1 << 20)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for number in range(210):
                packed.writestr(f"images/{number}.bmp", zeros)
    else:
        with tarfile.open(path, "w:gz") as packed:
            for number in range(210):
                member = tarfile.TarInfo(f"images/{number}.bmp")
                member.size = len(zeros)
                packed.addfile(member, io.BytesIO(zeros))
    with pytest.raises(DataError, match=r"unpacks to 220 MB: that is more than 100 times"):
        unpack(path, tmp_path / "unpacked")
    with pytest.raises(DataError, match=r"the limit is 1 MB"):
        unpack(path, tmp_path / "unpacked", max_bytes=1e6)
    assert not (tmp_path / "unpacked").exists()


def test_camvid_is_read_as_published(camvid):
    source = open_source(compose(["dataset=camvid"]).config.dataset)
    train = source.pairs("train")
    assert len(train) == 367 and len(source.pairs("val")) == 101
    fingerprints = source.config.download.fingerprints
    folders = [camvid / "images" / "val", camvid / "masks" / "val"]
    assert files_fingerprint(folders) == fingerprints["val"]
