"""CVAT's form for video: tracks, read from frame files, images and a video."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segtune.api.importing import import_dataset
from segtune.errors import DataError
from tests.data.annotation_sets import H, W, photo
from tests.data.polygon_sets import annotations_of

COUNT = 12
EARLY = [(0, 0), (2, 0), (40, 0), (40, 40)]  # the second corner comes early, or late
LATE = [(0, 0), (38, 0), (40, 0), (40, 40)]
TRIANGLE = [(10, 10), (30, 12), (14, 40)]


def box(frame: int, left: float, top: float, right: float, bottom: float, more: str = "") -> str:
    corners = f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"'
    outside = "" if "outside" in more else 'outside="0"'
    return f'<box frame="{frame}" {corners} {outside} {more}/>'


def polygon(frame: int, points, outside: int = 0) -> str:
    text = ";".join(f"{x},{y}" for x, y in points)
    return f'<polygon frame="{frame}" points="{text}" outside="{outside}" keyframe="1"/>'


def write_xml(root: Path, *tracks: str, meta: str = "", name: str = "annotations.xml") -> None:
    """One track each of car, tree, car, …"""
    root.mkdir(parents=True, exist_ok=True)
    text = ""
    for index, shapes in enumerate(tracks):
        text += f'<track id="{index}" label="{["car", "tree"][index % 2]}">{shapes}</track>'
    labels = "<labels><label><name>car</name></label><label><name>tree</name></label></labels>"
    meta = f"<meta><task>{meta}{labels}</task></meta>"
    (root / name).write_text(f"<annotations>{meta}{text}</annotations>")


def write_frames(folder: Path, numbers=range(COUNT), name: str = "frame_{:06d}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(photo(number)).save(folder / name.format(number))


def write_video(path: Path, count: int = COUNT) -> None:
    """A lossless video whose frame N is grey of level 16 * N."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = W, H, "bgr0"
        for number in range(count):
            pixels = np.full((H, W, 3), 16 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode())


def drawn(root: Path) -> dict[int, dict[str, np.ndarray]]:
    """Frame -> class -> pixels, as the reader draws them."""
    frames = {}
    for image in annotations_of(root).images:
        bits = {area.concept: area.draw(H, W) for area in image.areas}
        frames[int(image.name[-6:])] = bits
    return frames


def corners_of(bits: np.ndarray) -> tuple[int, int, int, int]:
    ys, xs = np.nonzero(bits)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def by_coco(points) -> np.ndarray:
    flat = [float(value) for point in points for value in point]
    return coco_mask.decode(coco_mask.frPyObjects([flat], H, W))[..., 0] == 1


def test_a_box_moves_in_a_straight_line_until_it_is_outside(tmp_path):
    """Counted by hand: 4 px to the right and 2 px wider in each frame."""
    shapes = box(2, 4, 5, 14, 15) + box(5, 16, 5, 32, 15) + box(7, 0, 0, 9, 9, 'outside="1"')
    write_xml(tmp_path, shapes + box(9, 40, 5, 50, 15))
    write_frames(tmp_path / "images")
    frames = drawn(tmp_path)
    assert [number for number in frames if frames[number]] == [2, 3, 4, 5, 6, 9, 10, 11]
    for number, (left, right) in {2: (4, 14), 3: (8, 20), 4: (12, 26), 5: (16, 32)}.items():
        assert corners_of(frames[number]["car"]) == (left, 5, right, 15)
    assert corners_of(frames[11]["car"]) == (40, 5, 50, 15)  # the last shape stays


@pytest.mark.parametrize(("start", "end", "middle"), [(0, 90, 45), (350, 30, 10), (30, 350, 10)])
def test_a_box_turns_the_shorter_way(tmp_path, start, end, middle):
    def middle_of(rotation, more=""):
        return box(4, 20, 10, 40, 20, f'rotation="{rotation}"') + more

    shapes = box(0, 20, 10, 40, 20, f'rotation="{start}"')
    write_xml(tmp_path / "a", shapes + box(8, 20, 10, 40, 20, f'rotation="{end}"'))
    write_xml(tmp_path / "b", middle_of(middle))
    for folder in ("a", "b"):
        write_frames(tmp_path / folder)
    between, stated = drawn(tmp_path / "a")[4]["car"], drawn(tmp_path / "b")[4]["car"]
    np.testing.assert_array_equal(between, stated)


def test_polygons_move_corner_by_corner_as_pycocotools_draws_them(tmp_path):
    end = [(x + 20, y + 2) for x, y in TRIANGLE]
    write_xml(tmp_path, "", polygon(0, TRIANGLE) + polygon(10, end))
    write_frames(tmp_path)
    frames = drawn(tmp_path)
    for number in range(11):
        points = [(x + 2 * number, y + 0.2 * number) for x, y in TRIANGLE]
        np.testing.assert_array_equal(frames[number]["tree"], by_coco(points))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (polygon(0, EARLY) + polygon(9, LATE), "have other corners"),
        (polygon(0, TRIANGLE) + polygon(9, [*TRIANGLE, (9, 20)]), "frames 0 and 9 have other"),
        (polygon(0, TRIANGLE) + box(9, 1, 1, 9, 9), "a polygon and a box in the frames 0 and 9"),
        (box(3, 1, 1, 9, 9) + box(3, 1, 1, 9, 9), "two shapes in one of the frames"),
        ('<mask frame="0" rle="1,8" left="0" top="0" width="3" height="3"/>', "no mask in frame 1"),
        ('<box frame="x" xtl="1"/>', "track 0 .car."),
        (polygon(0, [(1, "nan"), (5, 5), (9, 1)]), "finite numbers"),
    ],
)
def test_tracks_whose_way_is_not_known_are_refused_by_track_and_frame(tmp_path, shapes, message):
    write_xml(tmp_path, shapes)
    write_frames(tmp_path)
    with pytest.raises(DataError, match=message):
        annotations_of(tmp_path)


def test_masks_ellipses_and_points_of_single_frames(tmp_path):
    """As CVAT writes shapes of one frame: a track whose next shape is outside."""
    mask = '<mask frame="{}" rle="1,8" left="2" top="3" width="3" height="3" outside="{}"/>'
    ellipse = '<ellipse frame="{}" cx="{}" cy="20" rx="8" ry="6" outside="0"/>'
    points = '<points frame="3" points="1,1" outside="0"/>'
    tracks = [mask.format(1, 0) + mask.format(2, 1), ellipse.format(0, 20) + ellipse.format(4, 40)]
    write_xml(tmp_path, *tracks, points)
    write_frames(tmp_path)
    frames = drawn(tmp_path)
    assert frames[1]["car"].sum() == 8
    assert not frames[1]["car"][3, 2]
    assert "car" not in frames[2]
    np.testing.assert_array_equal(frames[2]["tree"][:, 10:], frames[0]["tree"][:, :-10])


def test_frames_of_a_video_are_decoded_by_their_number(tmp_path):
    """A task of every third frame from frame 2 on; a frame's level of grey is 16 * its number."""
    meta = "<size>3</size><start_frame>2</start_frame><frame_filter>step=3</frame_filter>"
    write_xml(tmp_path / "set", box(5, 10, 10, 30, 30), meta=f"{meta}<source>v.mkv</source>")
    write_video(tmp_path / "set" / "v.mkv")
    write_video(tmp_path / "set" / "other.mkv", 1)
    result = import_dataset(tmp_path / "set", tmp_path / "out", "dataset.splits.val=0.4")
    assert sum(result.counts.values()) == 3
    sums = {}
    for path in (tmp_path / "out" / "images").rglob("*.png"):
        pixels = np.array(Image.open(path))
        number = int(path.stem[-6:])
        assert (pixels == 16 * number).all()
        mask = path.as_posix().replace("/images/", "/masks/")
        sums[number] = int(np.array(Image.open(mask)).sum())
    assert sums == {2: 0, 5: 400, 8: 400}


def test_a_video_that_ends_early_is_refused(tmp_path):
    write_xml(tmp_path / "set", box(0, 10, 10, 30, 30), meta="<size>20</size>")
    write_video(tmp_path / "set" / "v.mkv", 5)
    with pytest.raises(DataError, match=r"v.mkv' ends before frame 5"):
        import_dataset(tmp_path / "set", tmp_path / "out")


def test_a_task_of_images_is_read_in_the_order_of_their_names(tmp_path):
    shapes = box(1, 10, 10, 30, 30) + box(2, 0, 0, 9, 9, 'outside="1"')
    write_xml(tmp_path, shapes, meta="<size>3</size>")
    write_frames(tmp_path, range(3), "street{}.png")
    images = {image.name: image.areas for image in annotations_of(tmp_path).images}
    assert [len(images[f"street{number}"]) for number in range(3)] == [0, 1, 0]


@pytest.mark.parametrize(
    ("names", "meta", "message"),
    [
        (["a8.png", "a9.png", "a10.png"], "<size>3</size>", "another order by name than by number"),
        (["a.png", "b.png"], "<size>3</size>", "states 3 frames; beside it are 2 images"),
        (["a.png"], "", "states no size; beside it are 1 images"),
        (["x/frame_0.png", "y/frame_0.png"], "", "frame 0 could be"),
    ],
)
def test_images_that_may_be_another_frame_are_refused(tmp_path, names, meta, message):
    write_xml(tmp_path, box(0, 1, 1, 9, 9), meta=meta)
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(photo(0)).save(tmp_path / name)
    with pytest.raises(DataError, match=message):
        annotations_of(tmp_path)


def test_tracks_of_a_project_are_refused(tmp_path):
    write_frames(tmp_path)
    (tmp_path / "a.xml").write_text(
        "<annotations><meta><project/></meta><track label='a'></track></annotations>"
    )
    with pytest.raises(DataError, match="Export each of its tasks"):
        annotations_of(tmp_path)


def test_a_shape_whose_frame_has_no_image_is_noted(tmp_path):
    write_xml(tmp_path, box(0, 1, 1, 9, 9) + box(COUNT + 5, 1, 1, 9, 9))
    write_frames(tmp_path)
    notes = "\n".join(annotations_of(tmp_path).notes)
    assert "1 frames with shapes have no image" in notes
    assert f"annotations.xml' {COUNT + 5}" in notes


def test_frames_beside_each_other_stay_in_one_split(tmp_path):
    write_xml(tmp_path / "one", box(0, 1, 1, 9, 9))
    write_frames(tmp_path / "one")
    groups = [image.group for image in annotations_of(tmp_path / "one").images]
    assert groups == sorted(groups)
    assert len(set(groups)) == 10
    for name in ("a", "b"):
        write_xml(tmp_path / "two" / name, box(0, 1, 1, 9, 9))
        write_frames(tmp_path / "two" / name, range(3))
    groups = [image.group for image in annotations_of(tmp_path / "two").images]
    assert groups == ["a/annotations"] * 3 + ["b/annotations"] * 3
