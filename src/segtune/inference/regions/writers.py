"""Regions in the forms of other programs: COCO, GeoJSON, YOLO-seg, and Clarifai's API.

They need regions alone, so that a stored prediction can be written in another format later.
"""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from shapely.geometry import mapping

from segtune.classes import ClassTable
from segtune.inference.media.georeference import Georeference
from segtune.inference.regions.polygons import one_path
from segtune.inference.regions.regions import Region


@dataclass(frozen=True)
class WrittenImage:
    """The image or the frame whose regions are written.

    Attributes:
        name: as in `regions.json`; of a frame that of its video.
        stem: its path below the folder of a format, without suffix.
        place: the georeference of a map, else None.
        is_frame: it is a frame of a video.
    """

    name: str
    stem: Path
    classes: ClassTable
    place: Georeference | None = None
    is_frame: bool = False


def to_coco(images: Iterable[Mapping[str, Any]], classes: ClassTable) -> dict[str, Any]:
    """Return rows of `regions.json` as a COCO dataset with RLE masks.

    Category ids start at 1, since COCO reserves 0. A frame of a video is an image of its own, with
    the name of its mask.

    Args:
        images: rows with file, width, height and regions.
    """
    coco_images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, row in enumerate(images, 1):
        size = {"width": row["width"], "height": row["height"]}
        coco_images.append({"id": number, "file_name": row["file"], **size})
        for data in row["regions"]:
            annotation_id = len(annotations) + 1
            annotations.append(_annotation(annotation_id, number, Region.from_json(data)))
    categories = [
        {"id": n, "name": name, "supercategory": ""} for n, name in enumerate(classes.names, 1)
    ]
    return {
        "info": {"description": "predicted by segtune"},
        "images": coco_images,
        "annotations": annotations,
        "categories": categories,
    }


def _annotation(annotation_id: int, image_id: int, region: Region) -> dict[str, Any]:
    annotation = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": region.concept_id + 1,
        "segmentation": dict(region.rle),
        "area": int(coco_mask.area(dict(region.rle))),
        "bbox": list(region.box),
        "iscrowd": 0,
        "score": region.mean_confidence,
    }
    if region.finer:
        annotation["attributes"] = {"finer": region.label}
    return annotation


def to_geojson(
    regions: Iterable[Region], georeference: Georeference | None = None
) -> dict[str, Any]:
    """Return a FeatureCollection with a MultiPolygon per region (RFC 7946).

    Args:
        georeference: of the image. Coordinates are those of the map, and `crs` names their system
            as in the older GeoJSON of 2008, which GIS programs still read. With None, coordinates
            are pixels, y down.
    """
    features = []
    for region in regions:
        polygons = (
            [georeference.onto_map(p) for p in region.polygons] if georeference else region.polygons
        )
        coordinates = [mapping(p)["coordinates"] for p in polygons]
        properties = region.to_json(polygons=False)
        for key in ("rle", "id", "concept"):
            del properties[key]
        properties |= {
            "concept": region.concept,
            "concept_id": region.concept_id,
            "label": region.label,
        }
        features.append(
            {
                "type": "Feature",
                "id": region.id,
                "geometry": {"type": "MultiPolygon", "coordinates": coordinates},
                "properties": properties,
            }
        )
    return {"type": "FeatureCollection", "features": features, **crs_of(georeference)}


def crs_of(georeference: Georeference | None) -> dict[str, Any]:
    """Return the member of a FeatureCollection that names its coordinate system, if known."""
    crs = georeference.crs if georeference else None
    return {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}


def to_yolo(regions: Iterable[Region]) -> str:
    """Return YOLO-seg: per polygon a line of class id and x y pairs, as shares of width and height.

    Seams of no width lead to holes.
    """
    lines = []
    for region in regions:
        height, width = region.size
        for polygon in region.polygons:
            path = np.array(one_path(polygon)[:-1]) / (width, height)
            lines.append(f"{region.concept_id} " + " ".join(f"{v:.6f}" for v in path.ravel()))
    return "\n".join(lines) + ("\n" if lines else "")


def to_clarifai(regions: Iterable[Region]) -> list[dict[str, Any]]:
    """Return regions as in Clarifai's API: `outputs[].data.regions` of an image or a frame.

    `region_info.mask.image.base64` is a PNG of the image's size, 255 inside the region. Boxes are
    shares of height and width.
    """
    return [_clarifai_region(region) for region in regions]


def _clarifai_region(region: Region) -> dict[str, Any]:
    height, width = region.size
    x, y, w, h = region.box
    box = {
        "top_row": y / height,
        "left_col": x / width,
        "bottom_row": (y + h) / height,
        "right_col": (x + w) / width,
    }
    concepts = [{"id": region.concept, "name": region.concept, "value": region.mean_confidence}]
    concepts += [{"id": c.name, "name": c.name, "value": c.confidence} for c in region.finer]
    mask = {"image": {"base64": _png(region.mask())}}
    row: dict[str, Any] = {
        "id": str(region.id),
        "region_info": {"bounding_box": box, "mask": mask},
        "value": region.mean_confidence,
        "data": {"concepts": concepts},
    }
    if region.track is not None:
        row["track_id"] = str(region.track)
    return row


def clarifai_image(name: str, regions: Sequence[Region]) -> dict[str, Any]:
    """Return the answer of Clarifai's API for one image."""
    return _answer(name, "image", {"regions": to_clarifai(regions)})


def clarifai_frame(number: int, seconds: float, regions: Sequence[Region]) -> dict[str, Any]:
    """Return an entry of `data.frames`, with its number and its time in milliseconds."""
    info = {"index": number, "number": number, "time": round(seconds * 1000)}
    return {"frame_info": info, "data": {"regions": to_clarifai(regions)}}


def clarifai_video(name: str) -> tuple[str, str]:
    """Return the text of a video's answer before and after its frames, which commas separate."""
    text = json.dumps(_answer(name, "video", {"frames": []}), ensure_ascii=False)
    before, after = text.split('"frames": []')
    return before + '"frames": [', "]" + after


def _answer(name: str, kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    status = {"code": 10000, "description": "Ok"}
    output = {"status": status, "input": {"data": {kind: {"url": name}}}, "data": dict(data)}
    return {"status": status, "outputs": [output]}


def _png(mask: NDArray[np.bool_]) -> str:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")
