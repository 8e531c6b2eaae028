"""predict on images: outputs mirror the input; bad files are reported; a stopped call resumes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from jsonschema import validate
from PIL import Image
from pycocotools import mask as coco

import segtune
from segtune.data.reading.images import read_image, read_mask
from segtune.errors import ConfigError, DataError, Interrupted
from segtune.inference.options import Options
from segtune.inference.prediction import job
from segtune.inference.prediction.job import predict
from segtune.inference.prediction.request import PredictionRequest
from segtune.inference.regions.regions import SCHEMA, read_document
from segtune.inference.tiling import Tiling
from tests.inference.test_video import clip

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def segmenter(tiny_run):
    return segtune.load(tiny_run.segmenter)


def photo(path: Path, height: int = 40, width: int = 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def test_outputs_mirror_the_input_tree_and_regions_rebuild_the_masks(segmenter, tmp_path):
    photo(tmp_path / "in" / "a" / "x.png")
    photo(tmp_path / "in" / "b" / "x.png", 33, 47)
    result = predict(segmenter, PredictionRequest([str(tmp_path / "in")], tmp_path / "out"))
    assert result.images == 2 and not result.failed
    document = json.loads((tmp_path / "out" / "regions.json").read_text())
    for row, place in zip(document["images"], ("a/x.png", "b/x.png"), strict=True):
        stored = read_mask(tmp_path / "out" / "masks" / place)
        assert stored.shape == (row["height"], row["width"])
        rebuilt = np.full(stored.shape, 255, np.uint8)
        for region in row["regions"]:
            rebuilt[coco.decode(region["rle"]).astype(bool)] = region["concept"]["id"]
        np.testing.assert_array_equal(rebuilt, stored)
        assert sum(r["area_share"] for r in row["regions"]) == pytest.approx(1.0)
        assert read_image((tmp_path / "out" / "overlays" / place).with_suffix(".jpg")).shape == (
            row["height"],
            row["width"],
            3,
        )


def test_the_mask_equals_a_plain_torch_loop_bit_for_bit(segmenter, tiny_run, tmp_path):
    import torch

    from segtune.data.reading.images import read_image, resize_image, target_size

    path = photo(tmp_path / "p.png", 50, 80)
    pixels = read_image(path)
    height, width = target_size(50, 80, segmenter.image_size)
    x = torch.from_numpy(resize_image(pixels, height, width)).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = segmenter.model(x)
        logits = torch.nn.functional.interpolate(
            logits, size=(50, 80), mode="bilinear", align_corners=False
        )
    np.testing.assert_array_equal(segmenter.segment(path).mask, logits.argmax(1)[0].numpy())


def test_the_callers_segmenter_computes_after_predict_as_before(segmenter, tmp_path):
    path = photo(tmp_path / "p.png", 50, 80)
    before = segmenter.segment(path)
    predict(
        segmenter, PredictionRequest([str(path)], tmp_path / "out", options=Options(runtime="bf16"))
    )
    after = segmenter.segment(path)
    assert segmenter.engine.name == "eager"
    np.testing.assert_array_equal(before.confidence, after.confidence)


def test_a_batch_of_mixed_sizes_equals_one_by_one(segmenter):
    images = [
        RNG.integers(0, 256, s, dtype=np.uint8) for s in ((40, 60, 3), (64, 64, 3), (40, 60, 3))
    ]
    together = segmenter.segment_batch(images)
    for image, (mask, _) in zip(images, together, strict=True):
        assert (
            segmenter.segment(image).mask == mask
        ).mean() > 0.999  # batched convolutions may round another way


def test_a_bad_file_is_reported_and_the_others_are_processed(segmenter, tmp_path):
    photo(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no video")
    result = predict(segmenter, PredictionRequest([str(tmp_path / "in")], tmp_path / "out"))
    assert result.images == 1
    assert {Path(p).name for p in result.failed} == {"bad.png", "bad.mp4"}
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_a_single_unreadable_file_is_reported_once(segmenter, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    messages = []
    with pytest.raises(DataError, match=r"^'.*bad\.png' "):
        predict(
            segmenter,
            PredictionRequest([str(tmp_path / "bad.png")], tmp_path / "out"),
            say=messages.append,
        )
    assert not messages


def test_results_are_overwritten_only_on_request(segmenter, tmp_path):
    path = photo(tmp_path / "x.png")
    predict(segmenter, PredictionRequest([str(path)], tmp_path / "out"))
    with pytest.raises(ConfigError, match="overwrite=true"):
        predict(segmenter, PredictionRequest([str(path)], tmp_path / "out"))
    predict(segmenter, PredictionRequest([str(path)], tmp_path / "out", overwrite=True))


def files_of(output: Path) -> set[str]:
    """All that are not hidden, relative."""
    shown = (p for p in output.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(output).as_posix() for p in shown}


ALL_FORMATS = Options(
    formats=("masks", "overlays", "regions", "coco", "geojson", "yolo", "clarifai")
)


def test_overwriting_keeps_the_files_of_the_user(segmenter, tmp_path):
    out = tmp_path / "out"
    for name in ("a.png", "deep/b.png"):
        photo(tmp_path / "old" / name)
    clip(tmp_path / "old" / "c.mp4", [0, 40])
    photo(tmp_path / "new" / "a.png")
    predict(segmenter, PredictionRequest([str(tmp_path / "old")], out, options=ALL_FORMATS))
    own = {"masks/mine.png", "regions/mine.jsonl", "deep/notes.txt"}
    for name in own:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("{}")
    predict(
        segmenter,
        PredictionRequest(
            [str(tmp_path / "new")], out, options=Options(formats=("masks",)), overwrite=True
        ),
    )
    assert files_of(out) == {"regions.json", "masks/a.png"} | own
    assert not (out / "masks" / "deep").exists() and not (out / "masks" / "c").exists()
    predict(
        segmenter, PredictionRequest([str(out / "masks" / "a.png")], out, overwrite=True)
    )  # what is read is not removed first
    assert files_of(out) == {"regions.json", "masks/a.png", "overlays/a.jpg"} | own


def test_no_file_of_an_interrupted_prediction_stays(segmenter, tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        photo(tmp_path / "in" / f"{name}.png")
    inside = [str(tmp_path / "in")]
    for overwrite in (True, False):
        out = tmp_path / f"out{overwrite}"
        with monkeypatch.context() as patched:
            patched.setattr(
                "segtune.inference.prediction.writing.Writer.write_summaries", lambda *_: 1 / 0
            )
            with pytest.raises(ZeroDivisionError):
                predict(segmenter, PredictionRequest(inside, out))
        assert {"masks/b.png", "masks/c.png"} < files_of(out)
        gone = tmp_path / "in" / f"{'a' if overwrite else 'b'}.png"
        gone.unlink()
        predict(segmenter, PredictionRequest(inside, out, overwrite=overwrite))
        left = [p.stem for p in sorted((tmp_path / "in").iterdir())]
        expected = (
            {f"masks/{n}.png" for n in left}
            | {f"overlays/{n}.jpg" for n in left}
            | {"regions.json"}
        )
        assert files_of(out) == expected


def test_a_record_of_files_outside_the_output_removes_nothing(segmenter, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    photo(tmp_path / "x.png")
    predict(segmenter, PredictionRequest([str(tmp_path / "x.png")], tmp_path / "out"))
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    document = read_document(tmp_path / "out" / "regions.json")
    assert document["files"] == ["masks/x.png", "overlays/x.jpg", "regions.json"]
    document["files"] += ["../mine.txt", str(tmp_path / "mine.txt"), "link/mine.txt"]
    (tmp_path / "out" / "regions.json").write_text(json.dumps(document))
    predict(
        segmenter, PredictionRequest([str(tmp_path / "x.png")], tmp_path / "out", overwrite=True)
    )
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_two_inputs_of_one_stem_do_not_share_an_output(segmenter, tmp_path):
    photo(tmp_path / "in" / "x.png")
    photo(tmp_path / "in" / "x.jpg")
    predict(segmenter, PredictionRequest([str(tmp_path / "in")], tmp_path / "out"))
    assert len(list((tmp_path / "out" / "masks").glob("*.png"))) == 2


def test_a_source_without_files_is_reported(segmenter, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        predict(segmenter, PredictionRequest([str(tmp_path / "none*")], tmp_path / "out"))


def test_every_format_mirrors_the_input_and_the_document_fits_its_schema(segmenter, tmp_path):
    photo(tmp_path / "in" / "a b" / "x.y.png")
    formats = ("masks", "overlays", "regions", "coco", "geojson", "yolo", "clarifai")
    predict(
        segmenter,
        PredictionRequest(
            [str(tmp_path / "in")], tmp_path / "out", model="m", options=Options(formats=formats)
        ),
    )
    files = files_of(tmp_path / "out")
    place = "a b/x.y"
    assert files == {
        "regions.json",
        "coco.json",
        "yolo/data.yaml",
        f"masks/{place}.png",
        f"overlays/{place}.jpg",
        f"geojson/{place}.geojson",
        f"yolo/{place}.txt",
        f"clarifai/{place}.json",
    }
    document = read_document(tmp_path / "out" / "regions.json")
    validate(document, json.loads(SCHEMA.read_text()))
    assert document["images"][0]["regions"][0]["polygons"]


def test_another_schema_version_is_refused(tmp_path):
    (tmp_path / "regions.json").write_text('{"schema_version": 99}')
    with pytest.raises(DataError, match="schema version 99; this segtune reads 2"):
        read_document(tmp_path / "regions.json")


def test_a_stopped_call_resumes(segmenter, tmp_path, monkeypatch):
    for n in range(5):
        photo(tmp_path / "in" / f"{n}.png")
    seen: list[str] = []
    original = type(segmenter).segment

    def counted(self, image, **options):
        seen.append("x")
        if len(seen) == 3:
            raise KeyboardInterrupt
        return original(self, image, **options)

    monkeypatch.setattr(type(segmenter), "segment", counted)
    with pytest.raises(KeyboardInterrupt):
        predict(segmenter, PredictionRequest([str(tmp_path / "in")], tmp_path / "out"))
    assert not (tmp_path / "out" / "regions.json").exists()
    messages: list[str] = []
    result = predict(
        segmenter, PredictionRequest([str(tmp_path / "in")], tmp_path / "out"), say=messages.append
    )
    assert result.images == 5 and len(seen) == 3 + 3 and "2 of 5 files are finished" in messages[0]
    rows = read_document(tmp_path / "out" / "regions.json")["images"]
    assert [Path(r["file"]).name for r in rows] == [f"{n}.png" for n in range(5)]
    assert not list((tmp_path / "out").rglob(".*"))


def test_a_stop_request_ends_with_a_message_how_to_resume(segmenter, tmp_path, monkeypatch):
    for n in range(4):
        photo(tmp_path / "in" / f"{n}.png")

    class Asked(job.StopRequest):
        def __init__(self) -> None:
            super().__init__()
            self.requested = True

    monkeypatch.setattr(job, "StopRequest", Asked)
    with pytest.raises(Interrupted, match="same command resumes"):
        predict(segmenter, PredictionRequest([str(tmp_path / "in")], tmp_path / "out"))
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"other settings \(split: concept -> components\)"):
        predict(
            segmenter,
            PredictionRequest(
                [str(tmp_path / "in")], tmp_path / "out", options=Options(split="components")
            ),
        )


def test_a_changed_file_is_predicted_again(segmenter, tmp_path, monkeypatch):
    paths = [photo(tmp_path / "in" / f"{n}.png") for n in range(2)]
    monkeypatch.setattr(
        job.Writer, "write_summaries", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        predict(segmenter, PredictionRequest([str(tmp_path / "in")], tmp_path / "out"))
    monkeypatch.undo()
    photo(paths[0], 20, 30)
    predict(segmenter, PredictionRequest([str(tmp_path / "in")], tmp_path / "out"))
    rows = read_document(tmp_path / "out" / "regions.json")["images"]
    assert sorted((r["height"], r["width"]) for r in rows) == [(20, 30), (40, 60)]


def test_a_second_resume_keeps_the_results_of_the_first(segmenter, tmp_path, monkeypatch):
    path = photo(tmp_path / "in" / "a.png")
    source, mask = [str(tmp_path / "in")], tmp_path / "out" / "masks" / "a.png"
    first, stamp = path.read_bytes(), path.stat()

    def interrupted() -> None:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(
                job.Writer, "write_summaries", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            predict(segmenter, PredictionRequest(source, tmp_path / "out"))

    interrupted()
    photo(path, 20, 30)
    interrupted()
    interrupted()
    assert read_mask(mask).shape == (20, 30)
    path.write_bytes(first)  # with its old time, it looks as at first
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert predict(segmenter, PredictionRequest(source, tmp_path / "out")).images == 1
    assert read_mask(mask).shape == (40, 60)
    assert len(read_document(tmp_path / "out" / "regions.json")["images"]) == 1


def test_standard_input_takes_the_bytes_of_an_image(segmenter, tmp_path, monkeypatch):
    import io
    from types import SimpleNamespace

    content = photo(tmp_path / "x.png").read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    predict(segmenter, PredictionRequest(["-"], tmp_path / "out"))
    assert read_document(tmp_path / "out" / "regions.json")["images"][0]["file"] == "stdin"
    assert (tmp_path / "out" / "masks" / "stdin.png").is_file()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    with pytest.raises(DataError, match="standard input is empty"):
        predict(segmenter, PredictionRequest(["-"], tmp_path / "out2"))


def test_an_image_over_the_pixel_limit_is_refused_by_its_header(segmenter, tmp_path):
    path = photo(tmp_path / "x.png", 40, 60)
    with pytest.raises(DataError, match=r"claims 60 x 40 pixels; at most 1,000"):
        predict(
            segmenter,
            PredictionRequest([str(path)], tmp_path / "out", options=Options(max_pixels=1000)),
        )


def test_a_large_tiff_is_read_in_windows_and_refuses_some_formats(segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr("segtune.inference.prediction.rasters.MAX_WHOLE", 1000)
    path = photo(tmp_path / "x.tif", 70, 90)
    options = Options(tile=64, formats=("masks", "overlays", "geojson", "coco"), runtime="eager")
    predict(segmenter, PredictionRequest([str(path)], tmp_path / "out", options=options))
    row = read_document(tmp_path / "out" / "regions.json")["images"][0]
    whole = segmenter.segment(path, tiling=Tiling(64, 0.25))
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "masks" / "x.tif"), whole.mask)
    assert [r["rle"]["counts"] for r in row["regions"]] == [r.rle["counts"] for r in whole.regions]
    with pytest.raises(DataError, match="it does not support yolo"):
        predict(
            segmenter,
            PredictionRequest([str(path)], tmp_path / "out2", options=Options(formats=("yolo",))),
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "component"}, "did you mean 'components'"),
        ({"formats": ("cocoo",)}, "did you mean 'coco'"),
        ({"tta": "flips"}, "did you mean 'flip'"),
        ({"smooth": "flw"}, "did you mean 'flow'"),
        ({"sample_ms": 0.0}, "0.001 or more"),
        ({"min_area": 0}, "at least 1"),
        ({"tile": 64, "smooth": "flow"}, "leave out tile"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Options(**options)
