"""The tracks of CVAT's form for video: which shapes each frame shows."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from segtune.data.formats.areas import has_area
from segtune.data.formats.faults import LeftOut
from segtune.data.formats.shapes import finite

_COORDINATES = {
    "box": ("xtl", "ytl", "xbr", "ybr", "rotation"),
    "ellipse": ("cx", "cy", "rx", "ry", "rotation"),
}

_MOST_CORNERS = 4000  # of a polygon between two others: each is compared with each


def shapes_by_frame(
    tree: Element, path: Path, numbers: Sequence[int], left_out: LeftOut
) -> tuple[dict[int, list[Element]], list[int]]:
    """The shapes that each frame shows, as elements of the form for images.

    A track shows a shape from its frame on, until the next one or one with `outside="1"`. Between
    two, boxes, ellipses and polygons move in a straight line, as in CVAT.

    Args:
        numbers: the frames that have an image, ascending.
        left_out: takes a track of which a shape cannot be read, or CVAT's way from one to the next
            is not known; each of its stated shapes counts as bad.

    Returns:
        Frame -> its shapes; and the frames with a shape that are not among `numbers`.
    """
    shapes: dict[int, list[Element]] = {number: [] for number in numbers}
    without_image: set[int] = set()
    for index, track in enumerate(tree.iter("track")):
        where = f"'{path}' track {track.get('id', index)} ({track.get('label')})"
        num_bad = len(left_out.bad_shapes)
        with left_out.bad_shape(where):
            stated = sorted((node for node in track if node.get("frame")), key=_frame_of)
            for number, node in _shapes_of(stated, numbers):
                node.set("label", track.get("label") or "")
                shapes[number].append(node)
            for node in stated:
                if node.get("outside") != "1" and _frame_of(node) not in shapes:
                    without_image.add(_frame_of(node))
        if len(left_out.bad_shapes) > num_bad:
            others = [node.get("frame") for node in track if node.get("frame")][1:]
            left_out.bad_shapes += [f"{where} frame {frame}: of this track." for frame in others]
    return shapes, sorted(without_image)


def coordinates(text: str) -> list[float]:
    """The numbers x, y, x, y, … of a text `x,y;x,y;…`.

    Raises:
        ValueError: a point has another count of numbers.
    """
    numbers: list[float] = []
    for point in text.split(";"):
        x, comma, y = point.partition(",")
        if not comma or "," in y:
            raise ValueError(f"its point '{point.strip()}' is not two numbers x,y")
        numbers += finite([float(x), float(y)])
    return numbers


def _shapes_of(stated: Sequence[Element], numbers: Sequence[int]) -> list[tuple[int, Element]]:
    """(frame, copy of the shape there) of one track, from its stated shapes in their order."""
    frames = [_frame_of(node) for node in stated]
    if len(set(frames)) < len(frames):
        raise ValueError(f"it states two shapes in one of the frames {frames[:8]}")
    shown = []
    for number in numbers:
        index = bisect_right(frames, number) - 1
        if index < 0 or stated[index].get("outside") == "1":
            continue
        node = stated[index]
        if frames[index] != number and node.tag == "mask":
            raise ValueError(f"it states no mask in frame {number}; CVAT states one in each frame")
        if frames[index] != number and index + 1 < len(stated) and has_area(node.tag):
            passed = (number - frames[index]) / (frames[index + 1] - frames[index])
            node = _between(node, stated[index + 1], passed)
        shown.append((number, _copy(node)))
    return shown


def _frame_of(node: Element) -> int:
    return int(node.get("frame") or 0)


def _copy(node: Element) -> Element:
    copied = Element(node.tag, dict(node.attrib))
    copied.extend(node)
    return copied


def _between(first: Element, last: Element, passed: float) -> Element:
    """The shape between two of a track.

    Args:
        passed: part of the way, 0..1.
    """
    frames = f"frames {first.get('frame')} and {last.get('frame')}"
    if first.tag != last.tag:
        raise ValueError(f"it is a {first.tag} and a {last.tag} in the {frames}")
    node = _copy(first)
    if first.tag == "polygon":
        points = _interpolated_polygon(_corners(first), _corners(last), passed)
        if points is None:
            raise ValueError(
                f"the polygons of the {frames} have other corners, and none is stated between "
                "them. Export the task from CVAT, which states each frame"
            )
        node.set("points", ";".join(f"{x!r},{y!r}" for x, y in points.tolist()))
        return node
    for key in _COORDINATES.get(first.tag, ()):
        start, end = finite([float(shape.get(key) or 0) for shape in (first, last)])
        change = end - start
        if key == "rotation":
            change = (change + 180) % 360 - 180  # the shorter way around
        node.set(key, repr(start + change * passed))
    return node


def _corners(node: Element) -> NDArray[np.float64]:
    return np.array(coordinates(node.attrib["points"])).reshape(-1, 2)


def _interpolated_polygon(
    first: NDArray[np.float64], last: NDArray[np.float64], passed: float
) -> NDArray[np.float64] | None:
    """A polygon between two, (N, 2), where CVAT moves each corner to the one of equal number.

    CVAT moves it to the corner at the nearest share of the outline's length; None where that is
    another one.
    """
    if first.shape != last.shape or len(first) > _MOST_CORNERS:
        return None
    starts, ends = _shares(first), _shares(last)
    nearest = np.abs(starts[:, None] - ends[None]).argmin(1)
    if (nearest != np.arange(len(starts))).any():
        return None
    return np.asarray(first + (last - first) * passed, np.float64)


def _shares(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the outline's length up to each corner, and to the first one again, (N + 1)."""
    closed = np.concatenate([corners, corners[:1]])
    steps = np.linalg.norm(np.diff(closed, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)]) / max(float(steps.sum()), 1e-12)
