"""The forms of an answer: regions as JSON, pictures of masks and overlays, other tools' forms."""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.errors import ConfigError
from segtune.inference.prediction.formats import TextFormat, open_formats
from segtune.inference.regions.writers import (
    WrittenImage,
    clarifai_image,
    to_coco,
    to_geojson,
    to_yolo,
)
from segtune.plugins.registry import parts
from segtune.serving.computing import SegmentedImage

_JPEG_QUALITY = 92
_PNG_LEVEL = 1  # a mask is as small as at higher levels, in a fraction of the time


class Answer(NamedTuple):
    """The body of a response and its media type."""

    body: bytes
    media_type: str


class AnswerFormat(NamedTuple):
    """One form of an answer.

    Attributes:
        media_type: which `Accept` asks for it.
        suffix: of its file in an archive of several.
    """

    media_type: str
    suffix: str
    encode: Callable[[SegmentedImage, str], bytes]


def _regions(image: SegmentedImage, name: str) -> bytes:
    return _json(_document(image, name, polygons=True))


def _run_lengths(image: SegmentedImage, name: str) -> bytes:
    return _json(_document(image, name, polygons=False))


def _document(image: SegmentedImage, name: str, polygons: bool) -> dict[str, Any]:
    rows = [region.to_json(polygons) for region in image.regions]
    row: dict[str, Any] = {**_size(image), "file": name, "regions": rows}
    if image.edited is not None:
        row["facts"] = image.edited.facts
    return {**image.served.head(), "images": [row], "videos": [], "failed": {}}


def _mask(image: SegmentedImage, _: str) -> bytes:
    return _picture(".png", image.segmentation.mask, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])


def _overlay(image: SegmentedImage, _: str) -> bytes:
    overlay = cv2.cvtColor(image.segmentation.overlay(), cv2.COLOR_RGB2BGR)
    return _picture(".jpg", np.asarray(overlay), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def _edited(image: SegmentedImage, _: str) -> bytes:
    if image.edited is None:
        raise ConfigError("formats=edited: the served model is no workflow with edits.")
    picture = image.edited.picture
    code = cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    return _picture(".png", np.asarray(cv2.cvtColor(picture, code)), [])


def _geojson(image: SegmentedImage, _: str) -> bytes:
    return _json(to_geojson(image.regions))


def _coco(image: SegmentedImage, name: str) -> bytes:
    rows = [region.to_json(polygons=False) for region in image.regions]
    row = {**_size(image), "file": name, "regions": rows}
    return _json(to_coco([row], image.served.model.classes))


def _yolo(image: SegmentedImage, _: str) -> bytes:
    return to_yolo(image.regions).encode()


def _clarifai(image: SegmentedImage, name: str) -> bytes:
    return _json(clarifai_image(name, image.regions))


ANSWERS = {
    "rle": AnswerFormat("application/json", ".json", _run_lengths),
    "regions": AnswerFormat("application/vnd.segtune.regions+json", ".json", _regions),
    "masks": AnswerFormat("image/png", ".png", _mask),
    "overlays": AnswerFormat("image/jpeg", ".jpg", _overlay),
    "geojson": AnswerFormat("application/geo+json", ".geojson", _geojson),
    "coco": AnswerFormat("application/vnd.coco+json", ".json", _coco),
    "yolo": AnswerFormat("text/plain", ".txt", _yolo),
    "clarifai": AnswerFormat("application/vnd.clarifai+json", ".json", _clarifai),
    "edited": AnswerFormat("image/vnd.segtune.edited+png", ".png", _edited),
}
"""Name -> form. `rle` is `regions` without polygons, which take longer than all else."""

_ZIP = "application/zip"


def answer_formats() -> dict[str, AnswerFormat]:
    """Return name -> form: ours, and the text files of the writers of plugins."""
    forms = dict(ANSWERS)
    for name, part in parts("writer").items():
        if part.plugin is None:
            continue
        form = open_formats([name], {})[name].format
        if isinstance(form, TextFormat):
            encode = partial(_text, form)
            forms[name] = AnswerFormat(f"text/vnd.segtune.{name}", form.suffix, encode)
    return forms


def _text(form: TextFormat, image: SegmentedImage, name: str) -> bytes:
    written = WrittenImage(name, Path(name or "image").with_suffix(""), image.served.model.classes)
    return form.text(written, image.regions).encode()


def chosen(formats: str, accept: str) -> list[str]:
    """The names of the forms that a request asks for.

    Args:
        formats: names with commas; empty to let `accept` decide.
        accept: the header `Accept`: the first media type that is known.

    Raises:
        ConfigError: an unknown name, or no media type that is known.
    """
    names = list(dict.fromkeys(name for name in formats.split(",") if name))
    forms = answer_formats()
    unknown = [name for name in names if name not in forms]
    if unknown:
        raise ConfigError(f"formats={unknown[0]}: {', '.join(forms)} are allowed.")
    if names:
        return names
    by_type = {form.media_type: name for name, form in forms.items()}
    wanted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    for media_type in wanted:
        if media_type in by_type:
            return [by_type[media_type]]
        if media_type in ("", "*/*", "application/*"):
            return ["rle"]
        if media_type == _ZIP:
            return ["rle", "masks", "overlays"]
    raise ConfigError(f"Accept: {accept}: {', '.join(by_type)}, {_ZIP} are known.")


def answer(image: SegmentedImage, formats: Sequence[str], name: str) -> Answer:
    """Encode an image in one form, or in several as a ZIP archive of files named as the forms."""
    forms = answer_formats()
    if len(formats) == 1:
        form = forms[formats[0]]
        return Answer(form.encode(image, name), form.media_type)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # pictures are compressed already
        for key in formats:
            form = forms[key]
            archive.writestr(f"{key}{form.suffix}", form.encode(image, name))
    return Answer(buffer.getvalue(), _ZIP)


def _size(image: SegmentedImage) -> dict[str, int]:
    height, width = image.segmentation.mask.shape
    return {"width": width, "height": height}


def _picture(suffix: str, pixels: NDArray[Any], options: list[int]) -> bytes:
    _, data = cv2.imencode(suffix, pixels, options)
    return data.tobytes()


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
