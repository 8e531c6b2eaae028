"""Regions in the forms that other programs read: COCO, GeoJSON, YOLO-seg, and the shape of Clarifai's API.

All of them are made from regions alone, so that what was predicted once can be written again in another form.
"""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
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


def to_coco(images: Iterable[Mapping[str, Any]], classes: ClassTable) -> dict[str, Any]:
    """Rows of `regions.json` as a COCO dataset: masks as RLE, category ids from 1 (COCO keeps 0 for nothing).

    A frame of a video is an image of its own, under the name that its mask has.

    Args:
        images: with file, width, height and regions, and place where it has one.
    """
    found: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for number, row in enumerate(images, 1):
        found["images"].append(
            {"id": number, "file_name": row["file"], "width": row["width"], "height": row["height"]}
        )
        for region in map(Region.from_json, row["regions"]):
            annotation = {
                "id": len(found["annotations"]) + 1,
                "image_id": number,
                "category_id": region.concept_id + 1,
                "segmentation": dict(region.rle),
                "area": int(coco_mask.area(dict(region.rle))),
                "bbox": list(region.box),
                "iscrowd": 0,
                "score": region.mean_confidence,
            }
            if region.finer:
                annotation["attributes"] = {"finer": region.label}
            found["annotations"].append(annotation)
    categories = [
        {"id": n, "name": name, "supercategory": ""} for n, name in enumerate(classes.names, 1)
    ]
    return {"info": {"description": "predicted by segtune"}, **found, "categories": categories}


def to_geojson(regions: Iterable[Region], place: Georeference | None = None) -> dict[str, Any]:
    """A FeatureCollection with a MultiPolygon per region (RFC 7946).

    Args:
        place: of the image on a map, whose coordinates are written, with the name of their system as `crs` of the older
            GeoJSON of 2008, which GIS programs still read; without one, coordinates are pixels, y down.
    """
    features = []
    for region in regions:
        polygons = [place.onto_map(p) for p in region.polygons] if place else region.polygons
        properties = {
            k: v
            for k, v in region.to_json(polygons=False).items()
            if k not in ("rle", "id", "concept")
        }
        properties |= {
            "concept": region.concept,
            "concept_id": region.concept_id,
            "label": region.label,
        }
        coordinates = [mapping(p)["coordinates"] for p in polygons]
        features.append(
            {
                "type": "Feature",
                "id": region.id,
                "geometry": {"type": "MultiPolygon", "coordinates": coordinates},
                "properties": properties,
            }
        )
    found: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    return found | crs_of(place)


def crs_of(place: Georeference | None) -> dict[str, Any]:
    """The member of a FeatureCollection that names its coordinate system, where there is one."""
    crs = place.crs if place else None
    return {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}


def to_yolo(regions: Iterable[Region]) -> str:
    """YOLO-seg: a line per polygon, class id and x y pairs as shares of width and height; holes over a seam."""
    lines = []
    for region in regions:
        height, width = region.size
        for polygon in region.polygons:
            path = np.array(one_path(polygon)[:-1]) / (width, height)
            lines.append(f"{region.concept_id} " + " ".join(f"{v:.6f}" for v in path.ravel()))
    return "\n".join(lines) + ("\n" if lines else "")


def to_clarifai(regions: Iterable[Region]) -> list[dict[str, Any]]:
    """Regions as a client of Clarifai's API reads them: `outputs[].data.regions` of an image, or of a frame.

    `region_info.mask.image.base64` is a PNG of the image's size, 255 inside; boxes are shares of height and width.
    """
    found = []
    for region in regions:
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
        found.append(
            {
                "id": str(region.id),
                "region_info": {
                    "bounding_box": box,
                    "mask": {"image": {"base64": _png(region.mask())}},
                },
                "value": region.mean_confidence,
                "data": {"concepts": concepts},
            }
            | ({"track_id": str(region.track)} if region.track is not None else {})
        )
    return found


def clarifai_image(name: str, regions: Sequence[Region]) -> dict[str, Any]:
    """The answer of Clarifai's API for one image."""
    return _answer(name, "image", {"regions": to_clarifai(regions)})


def clarifai_frame(number: int, seconds: float, regions: Sequence[Region]) -> dict[str, Any]:
    """One of `data.frames`: its number and its time in milliseconds."""
    info = {"index": number, "number": number, "time": round(seconds * 1000)}
    return {"frame_info": info, "data": {"regions": to_clarifai(regions)}}


def clarifai_video(name: str) -> tuple[str, str]:
    """What stands before and after the frames, joined by commas, in the answer for a video (they may be many)."""
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
