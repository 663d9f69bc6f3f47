"""Objects of a raster as polygons -> GeoPackage, GeoJSON, GeoParquet."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from affine import Affine
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS
from rasterio.warp import transform as warp_points

from segsmith.data.footprints import LONGITUDE_LATITUDE, reprojected
from segsmith.delivery.polygons import FoundObject
from segsmith.errors import WriteError

pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00Z"})  # else each GeoPackage tells its own

VectorFormat = Literal["gpkg", "geojson", "parquet"]
FORMATS: tuple[VectorFormat, ...] = get_args(VectorFormat)
DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}

Geometries = np.ndarray
"""Shapely (multi)polygons."""


def vector_formats(names: Sequence[str]) -> tuple[VectorFormat, ...]:
    """The formats of these names, each once; none for `none`. Raises WriteError for a name that is no format, and
    for `none` beside others."""
    for name in names:
        if name not in (*FORMATS, "none"):
            raise WriteError(f"'{name}' is no format of polygons; known are {', '.join(FORMATS)} and none")
    if "none" in names and set(names) != {"none"}:
        raise WriteError(f"polygons are asked for as {' and as '.join(names)}; leave out none, or the formats")
    return tuple(known for known in FORMATS if known in names)


def write_vectors(file: Path, objects: Sequence[FoundObject], transform: Affine, crs: str) -> None:
    """Write a feature per object, in the format that the suffix names: .gpkg, .geojson or .parquet (GeoParquet 1.1).

    Outlines are in pixel coordinates, which `transform` takes to `crs`; that must be of the earth. GeoJSON is in
    longitude and latitude, as its standard (RFC 7946) wants, the others are in `crs`. A file that is there is replaced.
    The same objects give the same bytes. Raises WriteError. Fields:

        id          from 1 on
        class
        score       mean probability of its pixels, 0 to 1
        area_m2     of the polygon on the ground, in an equal-area projection
        length_m, width_m, angle_deg    of the smallest rectangle around it, on the ground; the angle is that of its
                    long side, 0 to 180, from east to north
    """
    outlines = np.array([found.outline for found in objects], object)
    on_map = shapely.transform(outlines, lambda xy: np.stack(transform @ tuple(xy.T), axis=1))
    fields = _fields(objects, on_map, crs)
    if file.suffix == ".geojson":
        on_map, crs = reprojected(on_map, crs, LONGITUDE_LATITUDE), LONGITUDE_LATITUDE
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in (file, file.with_name(f"{file.name}-journal")):  # SQLite would play back that of a process killed here
        left.unlink(missing_ok=True)
    try:
        if file.suffix == ".parquet":
            _write_parquet(file, on_map, fields, crs)
            return
        pyogrio.raw.write(
            file,
            shapely.to_wkb(on_map),
            list(fields.values()),
            list(fields),
            driver=DRIVERS[file.suffix],
            geometry_type="MultiPolygon",
            crs=CRS.from_string(crs).to_wkt(),
            layer="objects",
        )
    except (OSError, DataSourceError, DataLayerError) as error:
        raise WriteError(f"{file}: could not be written ({error})") from error


def _fields(objects: Sequence[FoundObject], on_map: Geometries, crs: str) -> dict[str, np.ndarray]:
    on_ground = reprojected(on_map, crs, _equal_area(on_map, crs))
    corners = [np.asarray(box.exterior.coords) for box in shapely.minimum_rotated_rectangle(on_ground)]
    sides = np.array([np.diff(corner[:3], axis=0) for corner in corners]).reshape(-1, 2, 2)
    lengths = np.hypot(*sides.transpose(2, 0, 1))
    long = np.take_along_axis(sides, lengths.argmax(axis=1)[:, None, None], axis=1)[:, 0]
    return {
        "id": np.arange(1, len(objects) + 1),
        "class": np.array([found.class_name for found in objects], object),
        "score": np.array([round(found.score, 4) for found in objects]),
        "area_m2": shapely.area(on_ground).round(2),
        "length_m": lengths.max(axis=1, initial=0).round(2),
        "width_m": lengths.min(axis=1, initial=np.inf).round(2),
        "angle_deg": np.degrees(np.arctan2(long[:, 1], long[:, 0])).round(1) % 180,
    }


def _equal_area(on_map: Geometries, crs: str) -> str:
    """A projection around the middle of what is there, in which areas are right and, near it, lengths."""
    left, bottom, right, top = shapely.total_bounds(on_map) if len(on_map) else (0, 0, 0, 0)
    (longitude,), (latitude,) = warp_points(crs, LONGITUDE_LATITUDE, [(left + right) / 2], [(bottom + top) / 2])
    return f"+proj=laea +lat_0={latitude} +lon_0={longitude} +datum=WGS84 +units=m"


def _write_parquet(file: Path, on_map: Geometries, fields: dict[str, np.ndarray], crs: str) -> None:
    """GeoParquet by its specification: WKB, and a line of metadata on the file."""
    facts: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["MultiPolygon"]}
    facts["crs"] = CRS.from_string(crs).to_dict(projjson=True)
    if len(on_map):
        facts["bbox"] = shapely.total_bounds(on_map).tolist()
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": facts}}
    table = pa.table({**fields, "geometry": pa.array(shapely.to_wkb(on_map), pa.binary())})
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), file, compression="zstd")
