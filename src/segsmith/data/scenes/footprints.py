"""Outlines of buildings in pixels -> footprints in degrees, and files of them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segsmith.data.scenes.aerial import Building

if TYPE_CHECKING:
    from affine import Affine

LonLat = NDArray[np.float64]
"""(n, 2) degrees of WGS 84, longitude first."""
Footprint = tuple[LonLat, ...]
"""Open rings: the outline, then courtyards."""

METRES_PER_DEGREE = 111_320.0
DATE = "2020-01-01T00:00:00Z"


def to_lonlat(buildings: Sequence[Building], at: "Affine", epsg: int) -> list[Footprint]:
    from rasterio.warp import transform

    if not buildings:
        return []
    points = np.concatenate([ring for building in buildings for ring in building.rings])
    x = at.a * points[:, 0] + at.b * points[:, 1] + at.c
    y = at.d * points[:, 0] + at.e * points[:, 1] + at.f
    lonlat = np.array(transform(f"EPSG:{epsg}", "EPSG:4326", x, y)).T
    lengths = [len(ring) for building in buildings for ring in building.rings]
    rings = iter(np.split(lonlat, np.cumsum(lengths)[:-1]))
    return [tuple(next(rings) for _ in building.rings) for building in buildings]


def write_geojson(path: Path, features: Iterable[tuple[Footprint, dict[str, Any]]], crs: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    named = f'"crs": {json.dumps({"type": "name", "properties": {"name": crs}})}, ' if crs else ""
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"type": "FeatureCollection", {named}"features": [')
        for n, (footprint, properties) in enumerate(features):
            # A hundredth of a millimetre is finer than anybody draws.
            rings = [np.round(np.concatenate([ring, ring[:1]]), 10).tolist() for ring in footprint]
            geometry = {"type": "Polygon", "coordinates": rings}
            feature = {"type": "Feature", "geometry": geometry, "properties": properties}
            file.write((", " if n else "") + json.dumps(feature))
        file.write("]}\n")


def write_layer(path: Path, footprints: list[Footprint]) -> None:
    import pyogrio
    import pyogrio.raw
    import shapely

    polygons = [shapely.Polygon(footprint[0], footprint[1:]) for footprint in footprints]
    # Both formats note when they were written; the same call is to write the same bytes.
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": DATE})
    try:
        pyogrio.raw.write(
            path,
            geometry=shapely.to_wkb(np.array(polygons, object)),
            field_data=[np.arange(1, len(polygons) + 1)],
            fields=["osm_id"],
            geometry_type="Polygon",
            crs="EPSG:4326",
            driver={".gpkg": "GPKG", ".shp": "ESRI Shapefile"}[path.suffix],
            layer_options={"DBF_DATE_LAST_UPDATE": DATE[:10]} if path.suffix == ".shp" else {},
        )
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
