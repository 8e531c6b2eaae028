"""Videos with known frames: times, rotation, sound, cuts, resumption."""

import json
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

import segtune
from segtune.errors import DataError, Interrupted
from segtune.inference.media.video import Video, overlay_video
from segtune.inference.options import Options
from segtune.inference.prediction import job
from segtune.inference.prediction.files import frames_of
from segtune.inference.prediction.job import predict
from segtune.inference.prediction.journal import read_lines
from segtune.inference.prediction.request import PredictionRequest
from segtune.inference.regions.regions import read_document

CODECS = {".mp4": "libx264", ".mkv": "libx264", ".avi": "mpeg4"}
STEADY = [40 * n for n in range(50)]


@pytest.fixture(scope="module")
def segmenter(tiny_run):
    return segtune.load(tiny_run.segmenter)


def clip(
    path: Path, times: list[int] = STEADY, sound: str = "", height: int = 38, width: int = 50
) -> Path:
    """Write a video with frames at the given milliseconds, brighter on the right."""
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(CODECS[path.suffix], rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25 if path.suffix == ".avi" else 1000)
        if sound:
            audio = container.add_stream(sound, rate=8000, layout="mono")
        for milliseconds in times:
            # noise, so that encoded frames have about the same size
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            image[:, : width // 2] //= 4
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            scale = 40 if path.suffix == ".avi" else 1
            frame.pts, frame.time_base = milliseconds // scale, stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            tone = (np.sin(np.arange(8000) / 5) * 8000).astype(np.int16)[None]
            for start in range(0, 8000, 800):
                block = av.AudioFrame.from_ndarray(
                    tone[:, start : start + 800], format="s16", layout="mono"
                )
                block.sample_rate, block.pts, block.time_base = 8000, start, Fraction(1, 8000)
                container.mux(audio.encode(block))
            container.mux(audio.encode())
    return path


def frames(output: Path, place: str) -> list[dict]:
    return list(frames_of(output / "regions" / f"{place}.jsonl"))


def test_every_frame_has_its_number_and_time_and_the_overlay_keeps_the_timing(segmenter, tmp_path):
    times = [0, 40, 80, 200, 240]  # a variable rate
    path = clip(tmp_path / "c d.mp4", times)
    result = predict(segmenter, PredictionRequest([str(path)], tmp_path / "out"))
    assert result.frames == 5 and not result.partial
    rows = frames(tmp_path / "out", "c d")
    assert [f["number"] for f in rows] == [0, 1, 2, 3, 4]
    assert [round(f["time"] * 1000) for f in rows] == times
    with av.open(str(tmp_path / "out" / "overlays" / "c d.mp4")) as container:
        drawn = [round(float(f.pts * f.time_base) * 1000) for f in container.decode(video=0)]
    assert [t - drawn[0] for t in drawn] == times
    assert len(list((tmp_path / "out" / "masks" / "c d").glob("*.png"))) == 5
    video = read_document(tmp_path / "out" / "regions.json")["videos"][0]
    assert (
        video["frames"] == 5
        and video["partial"] is None
        and (video["width"], video["height"]) == (50, 38)
    )
    assert {r["track"] for f in rows for r in f["regions"]} >= {0}


@pytest.mark.parametrize("suffix", CODECS)
def test_a_cut_video_is_reported_and_its_frames_are_kept(segmenter, tmp_path, suffix):
    whole = clip(tmp_path / f"whole{suffix}", height=96, width=128)
    content = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(content[: int(len(content) * 0.6)])
    result = predict(
        segmenter,
        PredictionRequest(
            [str(whole), str(cut)], tmp_path / "out", options=Options(formats=("overlays",))
        ),
    )
    assert list(result.partial) == [str(cut)]
    assert "frames" in result.partial[str(cut)] and "of 2.0" in result.partial[str(cut)]
    assert len(frames(tmp_path / "out", "whole")) == 50
    kept = frames(tmp_path / "out", "cut")
    assert 10 < len(kept) < 40 and [f["number"] for f in kept] == list(range(len(kept)))


def test_a_cut_video_ends_with_exit_code_four(tiny_run, tmp_path, capsys):
    from segtune.cli.main import main

    content = clip(tmp_path / "c.mkv", height=96, width=128).read_bytes()
    (tmp_path / "c.mkv").write_bytes(content[: int(len(content) * 0.6)])
    words = [f"model={tiny_run.segmenter}", f"source={tmp_path / 'c.mkv'}", "output=out", "--json"]
    assert main(["predict", *words]) == 4
    assert json.loads(capsys.readouterr().out)["partial"]


U = 65536  # one, in the fixed point of ISO 14496-12
A, B, C, D = (U, 0, 0), (0, U, 0), (-U, 0, 0), (0, -U, 0)
# EXIF's orientation -> the display matrix: where it maps the axes x and y (no shift)
AXES = {1: A + B, 2: C + B, 3: C + D, 4: A + D, 5: B + A, 6: B + C, 7: D + C, 8: D + A}
MATRICES = {number: (*axes, 0, 0, 1073741824) for number, axes in AXES.items()}


def rotated(path: Path, matrix: tuple[int, ...]) -> Path:
    """The MP4 with another display matrix in its track header (ISO 14496-12, 8.3.2)."""
    content = bytearray(path.read_bytes())
    start = (
        content.index(b"tkhd") + 4 + 4 + 20 + 16
    )  # version and flags, times and ids, layer and volume
    assert struct.unpack(">9i", content[start : start + 36]) == (
        65536,
        0,
        0,
        0,
        65536,
        0,
        0,
        0,
        1073741824,
    )
    content[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_display_matrix_equals_the_same_exif_orientation(tmp_path, orientation):
    path = clip(tmp_path / "r.mp4", [0, 40])
    plain = next(iter(Video(path))).image
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(plain)
    stored.info["exif"] = exif.tobytes()
    expected = np.array(ImageOps.exif_transpose(stored))
    seen = next(iter(Video(rotated(path, MATRICES[orientation])))).image
    np.testing.assert_array_equal(seen, expected)


def test_the_colours_and_the_tag_of_an_overlay_are_bt709(tmp_path):
    source, target = Video(clip(tmp_path / "c.mp4", [0])), tmp_path / "overlay.mp4"
    colors = [(200, 30, 40), (20, 180, 60), (40, 60, 220)]
    picture = np.repeat(np.array([colors], np.uint8), 32, axis=1).repeat(64, axis=0)
    with overlay_video(target, source) as writer:
        writer.write(picture, Fraction(0))
    with av.open(str(target)) as container:
        context = container.streams.video[0].codec_context
        tags = context.colorspace, context.color_primaries, context.color_trc, context.color_range
        luma = next(container.decode(video=0)).to_ndarray()[:64]
    assert [int(tag) for tag in tags] == [1, 1, 1, 1]
    for number, (red, green, blue) in enumerate(colors):
        expected = 16 + 219 / 255 * (
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        )  # ITU-R BT.709, 3.2 and 3.4
        assert luma[32, 32 * number + 16] == pytest.approx(expected, abs=2)
    np.testing.assert_allclose(next(iter(Video(target))).image[32, 16::32], colors, atol=6)


@pytest.mark.parametrize(
    ("suffix", "sound", "kept"), [(".mp4", "aac", "aac"), (".avi", "pcm_s16le", "aac")]
)
def test_the_overlay_keeps_the_sound(segmenter, tmp_path, suffix, sound, kept):
    path = clip(tmp_path / f"s{suffix}", STEADY[:25], sound)
    predict(segmenter, PredictionRequest([str(path)], tmp_path / "out"))
    with av.open(str(tmp_path / "out" / "overlays" / "s.mp4")) as container:
        audio = container.streams.audio[0]
        assert audio.codec_context.name == kept
        heard = np.concatenate(
            [f.to_ndarray().ravel()[:: f.layout.nb_channels] for f in container.decode(audio)]
        )
    assert len(heard) / audio.codec_context.sample_rate == pytest.approx(1.0, abs=0.2)
    assert np.abs(heard).max() > 0.1


def test_frames_are_sampled_by_time(segmenter, tmp_path):
    path = clip(tmp_path / "c.mp4")
    predict(
        segmenter,
        PredictionRequest(
            [str(path)], tmp_path / "out", options=Options(sample_ms=500, formats=())
        ),
    )
    assert [round(f["time"] * 1000) for f in frames(tmp_path / "out", "c")] == [0, 520, 1000, 1520]


def test_each_kind_of_file_without_frames_has_its_message(segmenter, tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(DataError, match="empty \\(0 bytes\\)"):
        Video(tmp_path / "empty.mp4")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(2000))
    with pytest.raises(DataError, match="not a video"):
        Video(tmp_path / "noise.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        audio = container.add_stream("aac", rate=8000)
        block = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        block.sample_rate, block.pts = 8000, 0
        container.mux(audio.encode(block))
        container.mux(audio.encode())
    with pytest.raises(DataError, match="no video stream; it holds audio"):
        Video(tmp_path / "sound.mp4")
    with pytest.raises(DataError, match="none of 3 files"):
        predict(segmenter, PredictionRequest([str(tmp_path / "*.mp4")], tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("*.part*"))


class StopAfter(job.StopRequest):
    """Acts as if Ctrl-C came after some frames."""

    left = 12

    @property
    def requested(self) -> bool:
        type(self).left -= 1
        return type(self).left < 0

    @requested.setter
    def requested(self, value: bool) -> None:
        """Ignore other requests."""


@pytest.mark.parametrize("smooth", ["none", "flow"])
def test_a_stopped_video_resumes_and_ends_with_the_same_results(
    segmenter, tmp_path, monkeypatch, smooth
):
    path = clip(tmp_path / "c.mp4", STEADY[:30])
    options = Options(smooth=smooth, split="components", min_area=4)
    predict(segmenter, PredictionRequest([str(path)], tmp_path / "whole", options=options))
    monkeypatch.setattr(job, "StopRequest", StopAfter)
    StopAfter.left = 12
    with pytest.raises(Interrupted, match=r"stopped at frame 1\d of"):
        predict(segmenter, PredictionRequest([str(path)], tmp_path / "out", options=options))
    monkeypatch.undo()
    lines = tmp_path / "out" / "regions" / "c.jsonl"
    before = frames(tmp_path / "out", "c")
    assert 5 < len(before) < 30
    with lines.open("a") as file:
        file.write('{"number": 99, "ti')  # killed within a line
    computed: list[int] = []
    original = type(segmenter).decide
    monkeypatch.setattr(
        type(segmenter), "decide", lambda *a, **k: computed.append(1) or original(*a, **k)
    )
    result = predict(segmenter, PredictionRequest([str(path)], tmp_path / "out", options=options))
    assert result.frames == 30
    assert smooth == "flow" or len(computed) == 30 - len(before)
    expected = frames(tmp_path / "whole", "c")
    assert frames(tmp_path / "out", "c") == expected
    with av.open(str(tmp_path / "out" / "overlays" / "c.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30


def test_a_replaced_video_is_predicted_from_its_start(segmenter, tmp_path, monkeypatch):
    path = clip(tmp_path / "c.mp4", STEADY[:10])
    monkeypatch.setattr(job, "StopRequest", StopAfter)
    StopAfter.left = 6
    with pytest.raises(Interrupted):
        predict(segmenter, PredictionRequest([str(path)], tmp_path / "out"))
    monkeypatch.undo()
    clip(path, STEADY[:7])
    assert predict(segmenter, PredictionRequest([str(path)], tmp_path / "out")).frames == 7


def test_clarifai_and_coco_hold_every_frame(segmenter, tmp_path):
    path = clip(tmp_path / "c.mp4", STEADY[:4])
    predict(
        segmenter,
        PredictionRequest(
            [str(path)], tmp_path / "out", options=Options(formats=("coco", "clarifai"))
        ),
    )
    answer = json.loads((tmp_path / "out" / "clarifai" / "c.json").read_text())
    data = answer["outputs"][0]["data"]["frames"]
    assert [f["frame_info"]["time"] for f in data] == [0, 40, 80, 120]
    coco = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert [i["file_name"][-7:] for i in coco["images"]] == [
        "#000000",
        "#000001",
        "#000002",
        "#000003",
    ]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "count", "seconds"), [("solidWhiteRight", 221, 8.8), ("car-detection", 377, 30.08)]
)
def test_real_videos_give_every_frame_and_its_time(name, count, seconds):
    root = os.environ.get("SEGTUNE_DATA")
    path = Path(root or "") / "videos" / f"{name}.mp4"
    if not root or not path.is_file():
        pytest.skip("needs the videos: set SEGTUNE_DATA to the folder that holds videos/")
    video = Video(path)
    times = [f.time for f in video]
    assert len(times) == count and video.partial is None
    assert times[-1] == pytest.approx(seconds)
    np.testing.assert_allclose(np.diff(times), seconds / (count - 1), atol=1e-6)


def test_lines_are_readable_while_they_are_written(tmp_path):
    (tmp_path / "x").write_text('{"a": 1}\n{"b": 2}\n{"c"')
    assert list(read_lines(tmp_path / "x")) == [{"a": 1}, {"b": 2}]
