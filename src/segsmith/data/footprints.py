"""Vector file -> polygons in pixel coordinates of a raster -> masks of any window at any scale.

Pixel coordinates count from the raster's first corner, x right, y down, in pixels, whichever way is north. They are
snapped to 1/256 pixel, so that moving them by whole pixels loses nothing and windows equal the whole raster, cut.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import rasterio
import shapely
from affine import Affine
from jaxtyping import Int, Int32
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.features import rasterize
from rasterio.warp import transform as warp_points

from segsmith.data.windows import Window, scaled_hw, whole
from segsmith.errors import DataError
from segsmith.types import HW, ClassMask

SUFFIXES = frozenset({".geojson", ".gpkg", ".shp", ".fgb"})
PARQUET = ".parquet"
"""Of GeoParquet, and of any other table."""
GRID = 256
"""Steps of the coordinates per pixel."""

LONGITUDE_LATITUDE = "EPSG:4326"

_STRIP_PIXELS = 2**24


@dataclass(frozen=True)
class Footprints:
    """The polygons of one vector file, valid and flat, in its own CRS."""

    file: Path
    crs: str
    polygons: np.ndarray
    """Shapely (multi)polygons."""
    numbers: Int[np.ndarray, " polygons"]
    """Which feature of the file each is, 1 for the first."""
    classes: tuple[str, ...]
    """The class of each; all 'object' where no field tells."""
    features: int
    """How many features the file holds."""
    repaired: int
    """Polygons that crossed themselves and were made valid."""
    skipped: int
    """Features that are no polygon, have no geometry, or no area."""


def is_vector(path: Path) -> bool:
    """Whether a file is one of vector labels; a Parquet file that reads is one where its metadata say so."""
    if path.suffix.lower() != PARQUET:
        return path.suffix.lower() in SUFFIXES
    try:
        return b"geo" in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def read_footprints(file: Path, class_field: str | None = None) -> Footprints:
    """The polygons of a GeoJSON, GeoPackage, Shapefile, FlatGeobuf or GeoParquet; of several layers the one that holds
    geometry.

    GeoJSON and GeoParquet without CRS are longitude and latitude. Self-crossing polygons are repaired, holes kept.
    Raises DataError for a file that does not read, names no CRS, has several layers, lacks `class_field` or leaves it
    out of a polygon, or holds features of which none is a polygon.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = _read_parquet if file.suffix.lower() == PARQUET else _read_layer
            named, geometry, values = read(file, class_field)
    except (DataSourceError, DataLayerError, ValueError, KeyError, OSError) as error:
        raise DataError(
            f"{file}: does not read as vector labels ({' '.join(str(error).split(';')[0].split())})"
        ) from None
    shapes = shapely.force_2d(shapely.from_wkb(geometry, on_invalid="fix"))
    crs = _crs(file, named) if len(shapes) else LONGITUDE_LATITUDE
    areal = np.isin(shapely.get_type_id(shapes), (3, 6)) & ~shapely.is_empty(shapes)
    crossing = areal & ~shapely.is_valid(shapes)
    shapes[crossing] = [_areal_part(shape) for shape in shapely.make_valid(shapes[crossing])]
    areal &= shapely.area(shapes) > 0
    if len(shapes) and not areal.any():
        kinds = sorted({str(shape.geom_type) if shape else "nothing" for shape in shapes})
        raise DataError(
            f"{file}: holds no polygon with an area, only {', '.join(kinds)}; give the objects' outlines as polygons"
        )
    polygons = shapes[areal]
    numbers = np.flatnonzero(areal) + 1
    names = ["object"] * len(polygons)
    if class_field:
        told = values[areal]
        names = [str(value) for value in told]
        for number, value in zip(numbers, told, strict=True):
            if value is None or value != value or str(value) == "":
                raise DataError(f"{file}, feature {number}: no {class_field}; fill it in or remove the feature")
    return Footprints(
        file=file,
        crs=crs,
        polygons=polygons,
        numbers=numbers,
        classes=tuple(names),
        features=len(shapes),
        repaired=int((crossing & areal).sum()),
        skipped=int((~areal).sum()),
    )


def reprojected(polygons: np.ndarray, source: str, target: str) -> np.ndarray:
    """Shapely geometries in another CRS; empty where a coordinate has no place there.

    Raises ValueError for a CRS that cannot be had from the other.
    """
    if not len(polygons) or source == target:
        return polygons
    coordinates, owner = shapely.get_coordinates(polygons, return_index=True)
    moved = np.full_like(coordinates, np.inf)
    on_earth = np.ones(len(coordinates), bool)
    if CRS.from_user_input(source).is_geographic:
        on_earth = (np.abs(coordinates) <= (360, 90)).all(axis=1)
    moved[on_earth] = _moved(coordinates[on_earth], source, target)
    lost = np.zeros(len(polygons), bool)
    lost[owner[~np.isfinite(moved).all(axis=1)]] = True
    placed = shapely.set_coordinates(polygons.copy(), np.nan_to_num(moved, posinf=0, neginf=0))
    placed[lost] = shapely.Polygon()
    return np.asarray(placed)


def _moved(coordinates: np.ndarray, source: str, target: str) -> np.ndarray:
    """Coordinates in another CRS, not finite where there is no such place."""
    if not len(coordinates):
        return coordinates
    try:
        with rasterio.Env():
            return np.stack(warp_points(source, target, coordinates[:, 0], coordinates[:, 1]), axis=1)
    except CRSError as error:
        raise ValueError(f"{source} does not turn into {target} ({error})") from None
    except CPLE_BaseError:  # one point out of the projection's reach fails them all: leave that half out, then the rest
        if len(coordinates) == 1:
            return np.full((1, 2), np.inf)
        half = len(coordinates) // 2
        return np.concatenate([_moved(part, source, target) for part in (coordinates[:half], coordinates[half:])])


def to_pixels(polygons: np.ndarray, transform: Sequence[float]) -> np.ndarray:
    """Geometries of a raster's CRS in its pixel coordinates, snapped to 1/GRID pixel."""
    a, b, c, d, e, f = tuple(~Affine(*transform))[:6]

    def pixels(xy: np.ndarray) -> np.ndarray:
        x, y = xy[:, 0], xy[:, 1]
        return np.round(np.stack([a * x + b * y + c, d * x + e * y + f], axis=1) * GRID) / GRID

    return np.asarray(shapely.transform(polygons, pixels))


def rasterised(polygons: shapely.STRtree, raster_hw: HW, window: Window | None = None, scale: float = 1.0) -> ClassMask:
    """True where the centre of a pixel lies within a polygon of the tree, for a window on the grid of the raster
    enlarged `scale` times; without a window the whole raster. False outside the raster.

    Equal, pixel for pixel, to the mask of the whole raster at that scale, cut.
    """
    return _burnt(polygons, raster_hw, window, scale, numbered=False).view(bool)


def numbered(
    polygons: shapely.STRtree, raster_hw: HW, window: Window | None = None, scale: float = 1.0
) -> Int32[np.ndarray, "height width"]:
    """Likewise the number, from 1 on in the order of the tree, of the polygon that the centre of each pixel lies in; of
    several the last, 0 for none."""
    return _burnt(polygons, raster_hw, window, scale, numbered=True)


def _burnt(
    polygons: shapely.STRtree, raster_hw: HW, window: Window | None, scale: float, *, numbered: bool
) -> np.ndarray:
    """1 or, as int32, the number of a polygon where that lies; 0 elsewhere."""
    dtype = np.int32 if numbered else np.uint8
    new_hw = scaled_hw(raster_hw, scale)
    window = window or whole(new_hw)
    mask = np.zeros(window.hw, dtype)
    inside = window.inside(new_hw)
    if not inside.height or not inside.width:
        return mask
    grow = np.array([new_hw[1] / raster_hw[1], new_hw[0] / raster_hw[0]])
    left, top = np.array([inside.left, inside.top]) / grow - 1
    right, bottom = np.array([inside.left + inside.width, inside.top + inside.height]) / grow + 1
    places = np.sort(polygons.query(shapely.box(left, top, right, bottom)))
    near = polygons.geometries[places]
    if not len(near):
        return mask
    # first onto the new grid, the same for every window, and only then to the window, by whole pixels
    placed = shapely.transform(near, lambda xy: np.round(xy * grow * GRID) / GRID - (inside.left, inside.top))
    values = places + 1 if numbered else np.ones(len(places), int)
    with rasterio.Env():
        burnt = rasterize(zip(placed, values.tolist(), strict=True), out_shape=inside.hw, dtype=dtype)
    rows = slice(inside.top - window.top, inside.top - window.top + inside.height)
    mask[rows, inside.left - window.left : inside.left - window.left + inside.width] = burnt
    return mask


def foreground_pixels(polygons: shapely.STRtree, raster_hw: HW) -> int:
    """Pixels of a raster that lie in a polygon of the tree, counted strip by strip."""
    rows = max(1, _STRIP_PIXELS // raster_hw[1])
    total = 0
    for top in range(0, raster_hw[0], rows):
        strip = Window(top, 0, min(rows, raster_hw[0] - top), raster_hw[1])
        total += int(np.count_nonzero(rasterised(polygons, raster_hw, strip)))
    return total


def _read_layer(file: Path, class_field: str | None) -> tuple[Any, np.ndarray, np.ndarray]:
    """CRS, WKB of each feature, and what its `class_field` says, if one is named, by GDAL."""
    layer = _layer(file)
    _check_field(file, class_field, pyogrio.read_info(file, layer=layer)["fields"].tolist())
    meta, _, geometry, columns = pyogrio.raw.read(file, layer=layer, columns=[class_field] if class_field else [])
    return meta.get("crs"), np.empty(0, object) if geometry is None else geometry, columns[0] if columns else geometry


def _read_parquet(file: Path, class_field: str | None) -> tuple[Any, np.ndarray, np.ndarray]:
    """Likewise of GeoParquet, which not every GDAL reads, by its specification (1.1)."""
    schema = pq.read_schema(file)
    facts = json.loads(schema.metadata[b"geo"])
    column = facts["primary_column"]
    if (encoding := facts["columns"][column]["encoding"]) != "WKB":
        raise DataError(f"{file}: its geometries are encoded as {encoding}; write them as WKB")
    _check_field(file, class_field, [name for name in schema.names if name != column])
    table = pq.read_table(file, columns=[column, *([class_field] if class_field else [])])
    geometry, values = (np.array(table[name].to_pylist(), object) for name in (column, class_field or column))
    return facts["columns"][column].get("crs", LONGITUDE_LATITUDE), geometry, values


def _check_field(file: Path, class_field: str | None, fields: Sequence[str]) -> None:
    if class_field and class_field not in fields:
        raise DataError(f"{file}: has no field {class_field}; its fields are {', '.join(fields) or 'none'}")


def _layer(file: Path) -> str:
    layers = [str(name) for name, kind in pyogrio.list_layers(file) if kind is not None]
    if len(layers) != 1:
        found = ", ".join(layers) or "none"
        raise DataError(f"{file}: holds {len(layers)} layers of geometry ({found}); keep the one with the labels")
    return layers[0]


def _crs(file: Path, found: Any) -> str:
    if not found or "Undefined" in str(found):
        raise DataError(
            f"{file}: names no CRS, so nobody knows where its labels lie; write the CRS into it "
            "(ogr2ogr -a_srs EPSG:CODE NEW OLD)"
        )
    try:
        return str(CRS.from_user_input(found).to_string())
    except CRSError as error:
        raise DataError(f"{file}: its CRS is not known ({error})") from None


def _areal_part(shape: Any) -> Any:
    """Polygons of a repaired geometry, without the lines and points that may come off it."""
    parts = [part for part in shapely.get_parts(shape) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.MultiPolygon([p for part in parts for p in shapely.get_parts(part)])
