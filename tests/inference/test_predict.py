"""predict: files, folders and videos in; masks, overlays and regions out; a bad file is named and the rest go on."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

import segtune
from segtune.data.images import read_image, read_mask
from segtune.errors import ConfigError, DataError
from segtune.inference.predict import predict

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
    result = predict(segmenter, [str(tmp_path / "in")], tmp_path / "out")
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
        assert read_image(tmp_path / "out" / "overlays" / place).shape == (row["height"], row["width"], 3)


def test_the_mask_equals_a_plain_torch_loop_bit_for_bit(segmenter, tiny_run, tmp_path):
    import torch

    from segtune.data.images import read_image, resize_image, target_size

    path = photo(tmp_path / "p.png", 50, 80)
    pixels = read_image(path)
    height, width = target_size(50, 80, segmenter.image_size)
    x = torch.from_numpy(resize_image(pixels, height, width)).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = segmenter.model(x)
        logits = torch.nn.functional.interpolate(logits, size=(50, 80), mode="bilinear", align_corners=False)
    np.testing.assert_array_equal(segmenter.segment(path).mask, logits.argmax(1)[0].numpy())


def test_a_batch_of_mixed_sizes_equals_one_by_one(segmenter):
    images = [RNG.integers(0, 256, s, dtype=np.uint8) for s in ((40, 60, 3), (64, 64, 3), (40, 60, 3))]
    together = segmenter.segment_batch(images)
    for image, (mask, _) in zip(images, together, strict=True):
        assert (segmenter.segment(image).mask == mask).mean() > 0.999  # batched convolutions may round another way


def test_every_frame_has_its_number_and_time_and_the_overlay_keeps_the_timing(segmenter, tiny_run, tmp_path):
    times = [0, 40, 80, 200, 240]
    path = clip_with_times(tmp_path / "c.mp4", times)
    result = predict(segmenter, [str(path)], tmp_path / "out")
    assert result.frames == 5
    frames = json.loads((tmp_path / "out" / "regions.json").read_text())["videos"][0]["frames"]
    assert [f["number"] for f in frames] == [0, 1, 2, 3, 4]
    assert [round(f["time"] * 1000) for f in frames] == times
    with av.open(str(tmp_path / "out" / "overlays" / "c.mp4")) as container:
        drawn = [round(float(f.pts * f.time_base) * 1000) for f in container.decode(video=0)]
    assert [t - drawn[0] for t in drawn] == times
    assert len(list((tmp_path / "out" / "masks" / "c").glob("*.png"))) == 5


def clip_with_times(path: Path, times: list[int]) -> Path:
    from fractions import Fraction

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 50, 38, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for milliseconds in times:
            frame = av.VideoFrame.from_ndarray(np.full((38, 50, 3), milliseconds % 255, np.uint8), format="rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_bad_file_is_named_and_the_rest_go_on(segmenter, tmp_path):
    photo(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no video")
    result = predict(segmenter, [str(tmp_path / "in")], tmp_path / "out")
    assert result.images == 1
    assert {Path(p).name for p in result.failed} == {"bad.png", "bad.mp4"}
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_no_readable_file_at_all_is_a_data_error(segmenter, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of 1 files"):
        predict(segmenter, [str(tmp_path / "bad.png")], tmp_path / "out")


def test_results_are_not_overwritten_unless_told(segmenter, tmp_path):
    path = photo(tmp_path / "x.png")
    predict(segmenter, [str(path)], tmp_path / "out")
    with pytest.raises(ConfigError, match="overwrite=true"):
        predict(segmenter, [str(path)], tmp_path / "out")
    predict(segmenter, [str(path)], tmp_path / "out", overwrite=True)


def test_two_inputs_of_one_stem_do_not_share_an_output(segmenter, tmp_path):
    photo(tmp_path / "in" / "x.png")
    photo(tmp_path / "in" / "x.jpg")
    predict(segmenter, [str(tmp_path / "in")], tmp_path / "out")
    assert len(list((tmp_path / "out" / "masks").glob("*.png"))) == 2


def test_a_source_that_leads_nowhere_is_told(segmenter, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        predict(segmenter, [str(tmp_path / "none*")], tmp_path / "out")
