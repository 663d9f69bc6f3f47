"""Seed -> aerial scenes and building footprints on disk, in the layouts of contests and vendors."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from segsmith.data.scenes.aerial import Building
from segsmith.data.scenes.areas import Scene, area_name, draw_area
from segsmith.data.scenes.files import NOISY, TRAIN
from segsmith.data.scenes.footprints import Footprint, write_geojson, write_layer
from segsmith.data.scenes.rasters import RasterForm, check_form, write_raster
from segsmith.data.scenes.stac import write_stac
from segsmith.types import HW


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
    check_form(hw, form)
    if labels != ".geojson" and style != "tiers":
        raise ValueError(f"Style '{style}' has GeoJSON labels only. Received: labels='{labels}'.")
    tiers = (("train_tier_1", areas, TRAIN), ("train_tier_2", noisy_areas, NOISY))
    for tier, (name, count, stream) in enumerate(tiers):
        drawn = (
            (number, draw_area(number, tier, scenes, hw, gsds_m, share, [seed, stream], shift_m, missing, form))
            for number in range(count)
        )
        if style == "spacenet":
            for number, area in drawn:
                _write_spacenet(folder, 1 + number + tier * areas, area, form)
        elif count and style == "stac":
            write_stac(folder / name, ((area_name(n, tier), area) for n, area in drawn), scenes, seed, stream, form)
        else:
            for number, area in drawn:
                _write_tier(folder / name, area_name(number, tier), area, labels, form)


def _write_tier(tier: Path, name: str, area: Iterable[Scene], labels: str, form: RasterForm) -> None:
    footprints: list[Footprint] = []
    for n, scene in enumerate(area):
        write_raster(tier / name / f"{name}_{n}.tif", scene.pixels, scene.transform, form)
        footprints += scene.footprints(form)
    path = tier / name / f"{name}{labels}"
    if labels == ".geojson":
        write_geojson(path, ((f, {"osm_id": n + 1}) for n, f in enumerate(footprints)))
    else:
        write_layer(path, footprints)


def _write_spacenet(folder: Path, number: int, area: Iterable[Scene], form: RasterForm) -> None:
    import shapely
    from affine import Affine

    aoi = f"AOI_{number}_{area_name(number - 1, 0).title()}"
    image = 0
    for scene in area:
        height, width = scene.pixels.shape[1:]
        for top, bottom in ((0, height // 2), (height // 2, height)):
            for left, right in ((0, width // 2), (width // 2, width)):
                image += 1
                name = f"{aoi}_img{image}"
                at = scene.transform @ Affine.translation(left, top)
                tile = scene.pixels[:, top:bottom, left:right]
                write_raster(folder / "RGB-PanSharpen" / f"RGB-PanSharpen_{name}.tif", tile, at, form)
                frame = shapely.box(left, top, right, bottom)
                parts = []
                for building in scene.buildings:
                    cut = shapely.intersection(shapely.Polygon(building.rings[0], building.rings[1:]), frame)
                    for part in shapely.get_parts(cut):
                        if part.geom_type == "Polygon" and part.area > 0:
                            rings = (part.exterior, *part.interiors)
                            parts.append(Building(tuple(np.asarray(ring.coords)[:-1] for ring in rings)))
                footprints = [
                    tuple(np.concatenate([ring, np.zeros((len(ring), 1))], 1) for ring in footprint)
                    for footprint in scene.footprints(form, parts)
                ]
                write_geojson(
                    folder / "geojson" / "buildings" / f"buildings_{name}.geojson",
                    ((f, {"building": "yes"}) for f in footprints),
                    crs="urn:ogc:def:crs:OGC:1.3:CRS84",
                )
