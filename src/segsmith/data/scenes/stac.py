"""Scenes and footprints -> a STAC catalogue of images and labels."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from segsmith.data.scenes.aerial import Building
from segsmith.data.scenes.areas import Scene
from segsmith.data.scenes.files import hex_names
from segsmith.data.scenes.footprints import DATE, to_lonlat, write_geojson
from segsmith.data.scenes.rasters import RasterForm, write_raster


def write_stac(
    tier: Path, areas: Iterable[tuple[str, Iterable[Scene]]], scenes: int, seed: int, stream: int, form: RasterForm
) -> None:
    """Links and fields as the Open Cities AI Challenge has them (STAC 0.8.1 with its label extension)."""
    children = []
    number = 0
    for name, area in areas:
        ids = hex_names(number + scenes, 6, seed, stream)[number:]
        number += scenes
        items: list[str] = []
        boxes: list[list[float]] = []
        for scene_id, scene in zip(ids, area, strict=True):
            image, truth = tier / name / scene_id, tier / name / f"{scene_id}-labels"
            write_raster(image / f"{scene_id}.tif", scene.pixels, scene.transform, form)
            footprints = scene.footprints(form)
            write_geojson(truth / f"{scene_id}.geojson", ((f, {"building": "yes"}) for f in footprints))
            height, width = scene.pixels.shape[1:]
            frame = Building((np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64),))
            corners = to_lonlat([frame], scene.transform, form.epsg)[0][0]
            box = [*corners.min(0).tolist(), *corners.max(0).tolist()]
            place = {
                "geometry": {"type": "Polygon", "coordinates": [np.concatenate([corners, corners[:1]]).tolist()]},
                "bbox": box,
            }
            links = [
                {"rel": "collection", "href": "../collection.json", "type": "application/json"},
                {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
                {"rel": "parent", "href": "../collection.json", "type": "application/json"},
            ]
            item = {"type": "Feature", "stac_version": "0.8.1", "collection": name, **place}
            tif = {"href": f"./{scene_id}.tif", "type": "image/tiff; application=geotiff", "title": "GeoTIFF"}
            _write_json(
                image / f"{scene_id}.json",
                item
                | {"id": scene_id, "properties": {"area": name, "datetime": DATE}}
                | {"links": links, "assets": {"image": tif}},
            )
            source = {"rel": "source", "href": f"../{scene_id}/{scene_id}.json", "type": "application/json"}
            geojson = {"href": f"./{scene_id}.geojson", "type": "application/geo+json", "title": f"{scene_id}-labels"}
            about = {
                "area": name,
                "datetime": DATE,
                "label:description": f"Building footprints of scene {scene_id}",
                "label:type": "vector",
                "label:properties": ["building"],
                "label:classes": [{"name": "building", "classes": ["yes"]}],
                "label:overviews": [
                    {"property_key": "building", "counts": [{"name": "yes", "count": len(footprints)}]}
                ],
            }
            _write_json(
                truth / f"{scene_id}-labels.json",
                item
                | {"id": f"{scene_id}-labels", "stac_extensions": ["label"], "properties": about}
                | {"links": [*links, source], "assets": {"labels": geojson}},
            )
            items += [f"./{scene_id}/{scene_id}.json", f"./{scene_id}-labels/{scene_id}-labels.json"]
            boxes.append(box)
        box = [*np.min(boxes, 0)[:2].tolist(), *np.max(boxes, 0)[2:].tolist()] if boxes else [0.0, 0.0, 0.0, 0.0]
        root = {"rel": "root", "href": "../catalog.json", "type": "application/json"}
        _write_json(
            tier / name / "collection.json",
            {
                "id": name,
                "stac_version": "0.8.1",
                "description": f"{tier.name} training data from {name}",
                "license": "CC0-1.0",
                "extent": {"spatial": {"bbox": [box]}, "temporal": {"interval": [[DATE, None]]}},
                "links": [
                    *({"rel": "item", "href": href, "type": "application/json"} for href in items),
                    root,
                    root | {"rel": "parent"},
                ],
            },
        )
        children.append({"rel": "child", "href": f"./{name}/collection.json", "type": "application/json"})
    root = {"rel": "root", "href": "./catalog.json", "type": "application/json"}
    about_tier = f"Made-up training data of {tier.name}"
    _write_json(
        tier / "catalog.json",
        {"id": tier.name, "stac_version": "0.8.1", "description": about_tier, "links": [*children, root]},
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
