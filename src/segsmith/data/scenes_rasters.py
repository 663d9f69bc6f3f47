"""Seed -> georeferenced scenes and building footprints on disk, in the layouts that contests and vendors hand out."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segsmith.data.scenes_aerial import Building, Town, draw_town
from segsmith.data.scenes_fields import fractal
from segsmith.data.scenes_files import NOISY, TRAIN, hex_names
from segsmith.types import HW, ClassMask

if TYPE_CHECKING:
    from affine import Affine

Pixels = NDArray[Any]
"""(bands, height, width) in the file's dtype."""
LonLat = NDArray[np.float64]
"""(n, 2) degrees of WGS 84, longitude first."""
Footprint = tuple[LonLat, ...]
"""Open rings: the outline, then courtyards."""

_METRES_PER_DEGREE = 111_320.0
_DATE = "2020-01-01T00:00:00Z"


class RasterForm(NamedTuple):
    """How pixels are written; by default as drone mosaics mostly come."""

    bands: int = 4
    """1 to 12 with the alpha band: red, green, blue, near infrared, then mixtures of these. A single one is grey."""
    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    """0 to 255, 0 to 4080, or 0 to 1."""
    blank: Literal["alpha", "nodata", "none"] = "alpha"
    """How pixels without data are told: by a last band, by a value, or not at all since there are none."""
    nodata: float = 0.0
    epsg: int = 3857
    origin_lonlat: tuple[float, float] = (39.24, -6.04)
    """Where the first area lies; must be a place that the CRS is made for."""
    turned: Literal["north-up", "south-up", "rotated"] = "north-up"


class _Scene(NamedTuple):
    pixels: Pixels
    transform: "Affine"
    buildings: tuple[Building, ...]
    footprints: list[Footprint]


def make_buildings(
    folder: Path,
    *,
    areas: int = 2,
    noisy_areas: int = 1,
    scenes: int = 2,
    hw: HW = (1024, 1024),
    gsds_m: Sequence[float] = (0.15, 0.07),
    share: float = 0.15,
    seed: int = 0,
    style: Literal["tiers", "stac", "spacenet"] = "tiers",
    labels: Literal[".geojson", ".gpkg", ".shp"] = ".geojson",
    shift_m: tuple[float, float] = (3.0, -2.0),
    missing: float = 0.2,
    form: RasterForm = RasterForm(),  # noqa: B008 - it cannot be changed
) -> None:
    """Write made-up aerial scenes and building footprints into `folder`, which is created.

    Each area has `scenes` tiled GeoTIFF files of `hw` pixels, each side at least 64; scene n has pixels `gsds_m[n]`
    metres wide, the list begun again where it ends. About `share` of the pixels are buildings; in scenes of which a
    part is blank, buildings stand there, too. Footprints are in degrees (EPSG:4326), whatever the scenes' CRS, and go
    on beyond the border of a scene. Those of noisy areas lie `shift_m` (east, north) metres off, and about `missing` of
    them are left out.

    - "tiers": `train_tier_1/AREA/AREA_N.tif`, all footprints of an area in one `train_tier_1/AREA/AREA.geojson` (or
      `labels`), with an `osm_id`; noisy areas in `train_tier_2`.
    - "stac": a STAC 0.8.1 catalogue per tier, as in the Open Cities AI Challenge: `TIER/catalog.json`,
      `TIER/AREA/collection.json`, `TIER/AREA/ID/ID.json` beside `ID.tif`, and the labels' item
      `TIER/AREA/ID-labels/ID-labels.json` beside `ID.geojson`, linked to its source; GeoJSON only.
    - "spacenet": every scene cut in four tiles, `RGB-PanSharpen/RGB-PanSharpen_AOI_A_Name_imgN.tif`, each with the
      footprints cut at its border in `geojson/buildings/buildings_AOI_A_Name_imgN.geojson`, with an altitude of 0 as
      third coordinate; a tile without buildings has a file without features. GeoJSON only.

    The same call writes the same bytes, and a scene does not depend on how many there are. ValueError for what the
    options rule out.
    """
    _check(hw, form)
    if labels != ".geojson" and style != "tiers":
        raise ValueError(f"Style '{style}' has GeoJSON labels only. Received: labels='{labels}'.")
    tiers = (("train_tier_1", areas, TRAIN), ("train_tier_2", noisy_areas, NOISY))
    for tier, (name, count, stream) in enumerate(tiers):
        drawn = (
            (number, _draw_area(number, tier, scenes, hw, gsds_m, share, [seed, stream], shift_m, missing, form))
            for number in range(count)
        )
        if style == "spacenet":
            for number, area in drawn:
                _write_spacenet(folder, 1 + number + tier * areas, area, form)
        elif count and style == "stac":
            _write_stac(folder / name, ((_area_name(n, tier), area) for n, area in drawn), scenes, seed, stream, form)
        else:
            for number, area in drawn:
                _write_tier(folder / name, _area_name(number, tier), area, labels, form)


def make_large_scene(
    path: Path, *, hw: HW = (30_000, 30_000), gsd_m: float = 0.1, seed: int = 0, form: RasterForm = RasterForm()  # noqa: B008
) -> None:
    """Write one made-up scene of any size to `path` and its footprints beside it, suffix `.geojson`.

    One small settlement is repeated, by lot mirrored, turned, lighter or darker; one cell of it in twenty-five is
    blank. Memory does not grow with the height: about 250 MB for the default, which takes a few minutes. The same
    call writes the same bytes.
    """
    import rasterio
    from rasterio.windows import Window

    _check(hw, form)
    side, rows = _CELL, 512
    rng = np.random.default_rng([seed, TRAIN])
    town = draw_town(rng, (side, side), gsd_m=gsd_m, share=0.15, inside=True)
    pattern = _pixels(town, np.ones((side, side), bool), form)
    blank = _pixels(town, np.zeros((side, side), bool), form)
    down, across = math.ceil(hw[0] / side), math.ceil(hw[1] / side)
    turn = rng.integers(0, 8, (down, across))
    light = rng.uniform(0.85, 1.1, (down, across))
    empty = rng.random((down, across)) < (0.0 if form.blank == "none" else 0.04)
    empty[0, 0] = False
    transform = _transform(form.origin_lonlat, gsd_m, form)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Fast and light compression, for what matters here is only the size.
    with rasterio.open(path, "w", **_profile(pattern, hw, transform, form), zlevel=1, num_threads="all_cpus") as file:
        _describe(file, form)
        for top in range(0, hw[0], rows):
            strip = np.empty((form.bands, min(rows, hw[0] - top), hw[1]), pattern.dtype)
            row, within = divmod(top, side)
            for column in range(across):
                left = column * side
                cell = blank if empty[row, column] else _turned(pattern, int(turn[row, column]))
                cut = cell[:, within : within + strip.shape[1], : hw[1] - left]
                strip[:, :, left : left + side] = cut if empty[row, column] else _lit(cut, light[row, column], form)
            file.write(strip, window=Window(0, top, hw[1], strip.shape[1]))

    def footprints() -> Iterator[Footprint]:
        for row in range(down):
            standing = []
            for column in range(across):
                if empty[row, column]:
                    continue
                for building in town.buildings:
                    rings = tuple(
                        _turned_points(ring, int(turn[row, column]), side) + (column * side, row * side)
                        for ring in building.rings
                    )
                    if (rings[0].min(0) < (hw[1], hw[0])).all():
                        standing.append(Building(rings))
            yield from _to_lonlat(standing, transform, form.epsg)

    _write_geojson(path.with_suffix(".geojson"), ((f, {"osm_id": n + 1}) for n, f in enumerate(footprints())))


_CELL = 1536
"""Height and width of the repeated settlement; a multiple of the rows written at once."""


def _check(hw: HW, form: RasterForm) -> None:
    if min(hw) < 64:
        raise ValueError(f"A scene needs sides of at least 64 pixels. Received: hw={hw}.")
    if not (2 if form.blank == "alpha" else 1) <= form.bands <= 12:
        raise ValueError(f"A scene has 1 to 12 bands, an alpha band beside at least one. Received: {form.bands}.")


# ---- scenes ----------------------------------------------------------------------------------------------------------


def _draw_area(
    number: int,
    tier: int,
    scenes: int,
    hw: HW,
    gsds_m: Sequence[float],
    share: float,
    seed_stream: list[int],
    shift_m: tuple[float, float],
    missing: float,
    form: RasterForm,
) -> Iterator[_Scene]:
    """The scenes of an area, from west to east, one at a time."""
    lon, lat = form.origin_lonlat[0] + 0.03 * number, form.origin_lonlat[1] - 0.03 * tier
    for n in range(scenes):
        rng = np.random.default_rng([*seed_stream, number, n])
        gsd = gsds_m[n % len(gsds_m)]
        town = draw_town(rng, hw, gsd_m=gsd, share=share)
        valid = np.ones(hw, bool) if form.blank == "none" else _flown(rng, hw)
        transform = _transform((lon, lat), gsd, form)
        footprints = _to_lonlat(town.buildings, transform, form.epsg)
        kept = np.ones(len(footprints), bool)
        if tier:
            kept = rng.random(len(footprints)) >= missing
            moved = np.array([shift_m[0] / math.cos(math.radians(lat)), shift_m[1]]) / _METRES_PER_DEGREE
            footprints = [tuple(ring + moved for ring in footprint) for footprint in footprints]
        yield _Scene(
            _pixels(town, valid, form),
            transform,
            tuple(b for b, keep in zip(town.buildings, kept, strict=True) if keep),
            [f for f, keep in zip(footprints, kept, strict=True) if keep],
        )
        # Room for the houses that cross the border, and for a turned scene.
        lon += (math.hypot(*hw) * gsd + 80) / math.cos(math.radians(lat)) / _METRES_PER_DEGREE


def _flown(rng: np.random.Generator, hw: HW) -> ClassMask:
    """Where the drone has been: all but a ragged side or corner of 3 to 12 % of the image."""
    angle = rng.uniform(0, math.tau)
    y, x = np.mgrid[0 : hw[0], 0 : hw[1]].astype(np.float32)
    off = x * math.cos(angle) + y * math.sin(angle) + 0.01 * max(hw) * fractal(rng, hw, slope=1.5, longest=max(hw) / 4)
    return np.asarray(off < np.quantile(off[::4, ::4], rng.uniform(0.88, 0.97)))


def _pixels(town: Town, valid: ClassMask, form: RasterForm) -> Pixels:
    red, green, blue = np.moveaxis(town.image.astype(np.float32), 2, 0)
    colours = form.bands - (form.blank == "alpha")
    infrared = np.clip(0.5 * red + 0.2 * green + 120 * town.green, 0, 255)
    bands = [(red + green + blue) / 3] if colours == 1 else [red, green, blue, infrared]
    for n in range(len(bands), colours):
        part = (n - 3) / 9
        bands.append((1 - part) * bands[n % 3] + part * infrared)
    full, dtype = {"uint8": (255, np.uint8), "uint16": (4080, np.uint16), "float32": (1, np.float32)}[form.dtype]
    pixels = np.stack(bands[:colours]) * np.float32(full / 255)
    if form.blank == "nodata":
        # No pixel that was seen may look like one that was not.
        step = np.float32(1.0 if form.dtype != "float32" else 1e-3)
        pixels = np.round(pixels) if form.dtype != "float32" else pixels
        pixels = np.where(pixels == np.float32(form.nodata), pixels + (step if form.nodata < full else -step), pixels)
        pixels[:, ~valid] = form.nodata
        return pixels.astype(dtype)
    pixels[:, ~valid] = 0
    pixels = (np.round(pixels) if form.dtype != "float32" else pixels).astype(dtype)
    if form.blank == "alpha":
        opaque = 65535 if form.dtype == "uint16" else full
        pixels = np.concatenate([pixels, (valid * opaque).astype(dtype)[None]])
    return pixels


def _turned(pixels: Pixels, turn: int) -> Pixels:
    """One of the eight ways to lay a square down."""
    pixels = pixels.swapaxes(1, 2) if turn & 4 else pixels
    return pixels[:, :: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]


def _turned_points(points: NDArray[np.float64], turn: int, side: int) -> NDArray[np.float64]:
    points = points[:, ::-1] if turn & 4 else points
    return np.where([bool(turn & 1), bool(turn & 2)], side - points, points)


def _lit(pixels: Pixels, light: float, form: RasterForm) -> Pixels:
    """All colour bands brighter or darker; blank values stay blank, others do not become so."""
    colours = form.bands - (form.blank == "alpha")
    full = {"uint8": 255, "uint16": 4080, "float32": 1}[form.dtype]
    if form.dtype == "uint8":
        table = np.clip(np.round(np.arange(256) * light), 1, 255).astype(np.uint8)
        if form.blank == "nodata":
            table[table == form.nodata] = form.nodata + (1 if form.nodata < 255 else -1)
        lit = table[pixels[:colours]]
    else:
        lit = np.clip(pixels[:colours] * np.float32(light), full / 255, full).astype(pixels.dtype)
        if form.blank == "nodata":
            lit[lit == form.nodata] = full / 2
    return np.concatenate([lit, pixels[colours:]])


# ---- ground ----------------------------------------------------------------------------------------------------------


def _transform(lonlat: tuple[float, float], gsd: float, form: RasterForm) -> "Affine":
    """From pixels to the CRS; the outer corner of the first pixel lies at `lonlat`, pixels are `gsd` metres wide."""
    from affine import Affine
    from rasterio.warp import transform

    lon, lat = lonlat
    step = 100 / _METRES_PER_DEGREE
    lons, lats = [lon, lon + step / math.cos(math.radians(lat)), lon], [lat, lat, lat + step]
    x, y = transform("EPSG:4326", f"EPSG:{form.epsg}", lons, lats)
    # The CRS's own units per metre on the ground, east and north: degrees, feet, or a stretched Mercator's metres.
    ground = Affine(math.hypot(x[1] - x[0], y[1] - y[0]) / 100, 0, x[0], 0, math.hypot(x[2] - x[0], y[2] - y[0]) / 100, y[0])
    if form.turned == "rotated":
        ground = ground @ Affine.rotation(20.0)
    return ground @ Affine.scale(gsd, gsd if form.turned == "south-up" else -gsd)


def _to_lonlat(buildings: Sequence[Building], at: "Affine", epsg: int) -> list[Footprint]:
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


# ---- files -----------------------------------------------------------------------------------------------------------


def _profile(pixels: Pixels, hw: HW, transform: "Affine", form: RasterForm) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "width": hw[1],
        "height": hw[0],
        "count": len(pixels),
        "dtype": pixels.dtype.name,
        "crs": f"EPSG:{form.epsg}",
        "transform": transform,
        "nodata": form.nodata if form.blank == "nodata" else None,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "interleave": "pixel",
        "bigtiff": "if_safer",
        "photometric": "rgb" if form.bands - (form.blank == "alpha") >= 3 else "minisblack",
    }


def _describe(file: Any, form: RasterForm) -> None:
    """Say which band is which; of those beyond blue there is no name in a GeoTIFF but alpha's."""
    from rasterio.enums import ColorInterp

    colours = form.bands - (form.blank == "alpha")
    named = [ColorInterp.red, ColorInterp.green, ColorInterp.blue] if colours >= 3 else [ColorInterp.gray]
    rest = [ColorInterp.undefined] * (colours - len(named))
    file.colorinterp = [*named, *rest, *([ColorInterp.alpha] if form.blank == "alpha" else [])]


def _write_raster(path: Path, pixels: Pixels, transform: "Affine", form: RasterForm) -> None:
    import rasterio

    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **_profile(pixels, pixels.shape[1:], transform, form)) as file:
        _describe(file, form)
        file.write(pixels)


def _write_tier(tier: Path, name: str, area: Iterable[_Scene], labels: str, form: RasterForm) -> None:
    footprints: list[Footprint] = []
    for n, scene in enumerate(area):
        _write_raster(tier / name / f"{name}_{n}.tif", scene.pixels, scene.transform, form)
        footprints += scene.footprints
    path = tier / name / f"{name}{labels}"
    if labels == ".geojson":
        _write_geojson(path, ((f, {"osm_id": n + 1}) for n, f in enumerate(footprints)))
    else:
        _write_layer(path, footprints)


def _write_spacenet(folder: Path, number: int, area: Iterable[_Scene], form: RasterForm) -> None:
    import shapely
    from affine import Affine

    aoi = f"AOI_{number}_{_area_name(number - 1, 0).title()}"
    image = 0
    for scene in area:
        height, width = scene.pixels.shape[1:]
        # A noisy area's footprints are cut as if they lay right, and moved along.
        moved = None
        if scene.footprints:
            true = _to_lonlat(scene.buildings[:1], scene.transform, form.epsg)[0][0]
            moved = scene.footprints[0][0][0] - true[0]
        for top, bottom in ((0, height // 2), (height // 2, height)):
            for left, right in ((0, width // 2), (width // 2, width)):
                image += 1
                name = f"{aoi}_img{image}"
                at = scene.transform @ Affine.translation(left, top)
                tile = scene.pixels[:, top:bottom, left:right]
                _write_raster(folder / "RGB-PanSharpen" / f"RGB-PanSharpen_{name}.tif", tile, at, form)
                frame = shapely.box(left, top, right, bottom)
                parts = []
                for building in scene.buildings:
                    cut = shapely.intersection(shapely.Polygon(building.rings[0], building.rings[1:]), frame)
                    for part in shapely.get_parts(cut):
                        if part.geom_type == "Polygon" and part.area > 0:
                            rings = (part.exterior, *part.interiors)
                            parts.append(Building(tuple(np.asarray(ring.coords)[:-1] for ring in rings)))
                footprints = [
                    tuple(np.concatenate([ring + moved, np.zeros((len(ring), 1))], 1) for ring in footprint)
                    for footprint in _to_lonlat(parts, scene.transform, form.epsg)
                ]
                _write_geojson(
                    folder / "geojson" / "buildings" / f"buildings_{name}.geojson",
                    ((f, {"building": "yes"}) for f in footprints),
                    crs="urn:ogc:def:crs:OGC:1.3:CRS84",
                )


def _write_geojson(path: Path, features: Iterable[tuple[Footprint, dict[str, Any]]], crs: str | None = None) -> None:
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


def _write_layer(path: Path, footprints: list[Footprint]) -> None:
    import pyogrio
    import pyogrio.raw
    import shapely

    polygons = [shapely.Polygon(footprint[0], footprint[1:]) for footprint in footprints]
    # Both formats note when they were written; the same call is to write the same bytes.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _DATE})
    try:
        pyogrio.raw.write(
            path,
            geometry=shapely.to_wkb(np.array(polygons, object)),
            field_data=[np.arange(1, len(polygons) + 1)],
            fields=["osm_id"],
            geometry_type="Polygon",
            crs="EPSG:4326",
            driver={".gpkg": "GPKG", ".shp": "ESRI Shapefile"}[path.suffix],
            layer_options={"DBF_DATE_LAST_UPDATE": _DATE[:10]} if path.suffix == ".shp" else {},
        )
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def _write_stac(
    tier: Path, areas: Iterable[tuple[str, Iterable[_Scene]]], scenes: int, seed: int, stream: int, form: RasterForm
) -> None:
    """Links and fields as the Open Cities AI Challenge has them (STAC 0.8.1 with its label extension)."""
    children = []
    number = 0
    for name, area in areas:
        ids = hex_names(number + scenes, 6, seed, stream)[number:]
        number += scenes
        items, boxes = [], []
        for scene_id, scene in zip(ids, area, strict=True):
            image, truth = tier / name / scene_id, tier / name / f"{scene_id}-labels"
            _write_raster(image / f"{scene_id}.tif", scene.pixels, scene.transform, form)
            _write_geojson(truth / f"{scene_id}.geojson", ((f, {"building": "yes"}) for f in scene.footprints))
            height, width = scene.pixels.shape[1:]
            frame = Building((np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64),))
            corners = _to_lonlat([frame], scene.transform, form.epsg)[0][0]
            place = {
                "geometry": {"type": "Polygon", "coordinates": [np.concatenate([corners, corners[:1]]).tolist()]},
                "bbox": [*corners.min(0).tolist(), *corners.max(0).tolist()],
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
                | {"id": scene_id, "properties": {"area": name, "datetime": _DATE}}
                | {"links": links, "assets": {"image": tif}},
            )
            source = {"rel": "source", "href": f"../{scene_id}/{scene_id}.json", "type": "application/json"}
            geojson = {"href": f"./{scene_id}.geojson", "type": "application/geo+json", "title": f"{scene_id}-labels"}
            about = {
                "area": name,
                "datetime": _DATE,
                "label:description": f"Building footprints of scene {scene_id}",
                "label:type": "vector",
                "label:properties": ["building"],
                "label:classes": [{"name": "building", "classes": ["yes"]}],
                "label:overviews": [
                    {"property_key": "building", "counts": [{"name": "yes", "count": len(scene.footprints)}]}
                ],
            }
            _write_json(
                truth / f"{scene_id}-labels.json",
                item
                | {"id": f"{scene_id}-labels", "stac_extensions": ["label"], "properties": about}
                | {"links": [*links, source], "assets": {"labels": geojson}},
            )
            items += [f"./{scene_id}/{scene_id}.json", f"./{scene_id}-labels/{scene_id}-labels.json"]
            boxes.append(place["bbox"])
        box = [*np.min(boxes, 0)[:2].tolist(), *np.max(boxes, 0)[2:].tolist()] if boxes else [0.0, 0.0, 0.0, 0.0]
        root = {"rel": "root", "href": "../catalog.json", "type": "application/json"}
        _write_json(
            tier / name / "collection.json",
            {
                "id": name,
                "stac_version": "0.8.1",
                "description": f"{tier.name} training data from {name}",
                "license": "CC0-1.0",
                "extent": {"spatial": {"bbox": [box]}, "temporal": {"interval": [[_DATE, None]]}},
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


def _area_name(number: int, tier: int) -> str:
    """Three letters, another one for each of the first areas of both tiers."""
    number = 2 * number + tier
    return "bdfgklmnprst"[number % 12] + "aeiou"[number // 12 % 5] + "mnrlks"[number // 60 % 6]
