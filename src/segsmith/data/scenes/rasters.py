"""A drawn settlement -> a georeferenced raster in any form that vendors deliver; one of any size."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segsmith.data.scenes.aerial import Building, Town, draw_town
from segsmith.data.scenes.files import TRAIN
from segsmith.data.scenes.footprints import METRES_PER_DEGREE, Footprint, to_lonlat, write_geojson
from segsmith.types import HW, ClassMask

if TYPE_CHECKING:
    from affine import Affine

Pixels = NDArray[Any]
"""(bands, height, width) in the file's dtype."""


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


def check_form(hw: HW, form: RasterForm) -> None:
    if min(hw) < 64:
        raise ValueError(f"A scene needs sides of at least 64 pixels. Received: hw={hw}.")
    if not (2 if form.blank == "alpha" else 1) <= form.bands <= 12:
        raise ValueError(f"A scene has 1 to 12 bands, an alpha band beside at least one. Received: {form.bands}.")


def town_pixels(town: Town, valid: ClassMask, form: RasterForm) -> Pixels:
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


def transform_at(lonlat: tuple[float, float], gsd: float, form: RasterForm) -> "Affine":
    """From pixels to the CRS; the outer corner of the first pixel lies at `lonlat`, pixels are `gsd` metres wide."""
    from affine import Affine
    from rasterio.warp import transform

    lon, lat = lonlat
    step = 100 / METRES_PER_DEGREE
    lons, lats = [lon, lon + step / math.cos(math.radians(lat)), lon], [lat, lat, lat + step]
    x, y = transform("EPSG:4326", f"EPSG:{form.epsg}", lons, lats)
    # The CRS's own units per metre on the ground, east and north: degrees, feet, or a stretched Mercator's metres.
    east, north = math.hypot(x[1] - x[0], y[1] - y[0]) / 100, math.hypot(x[2] - x[0], y[2] - y[0]) / 100
    ground = Affine(east, 0, x[0], 0, north, y[0])
    if form.turned == "rotated":
        ground = ground @ Affine.rotation(20.0)
    return ground @ Affine.scale(gsd, gsd if form.turned == "south-up" else -gsd)


def write_raster(path: Path, pixels: Pixels, transform: "Affine", form: RasterForm) -> None:
    import rasterio

    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile(pixels, pixels.shape[1:], transform, form)) as file:
        describe(file, form)
        file.write(pixels)


def profile(pixels: Pixels, hw: HW, transform: "Affine", form: RasterForm) -> dict[str, Any]:
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
        "blockxsize": _BLOCK,
        "blockysize": _BLOCK,
        "compress": "deflate",
        "interleave": "pixel",
        "bigtiff": "if_safer",
        "photometric": "rgb" if form.bands - (form.blank == "alpha") >= 3 else "minisblack",
    }


def describe(file: Any, form: RasterForm) -> None:
    """Say which band is which; of those beyond blue there is no name in a GeoTIFF but alpha's."""
    from rasterio.enums import ColorInterp

    colours = form.bands - (form.blank == "alpha")
    named = [ColorInterp.red, ColorInterp.green, ColorInterp.blue] if colours >= 3 else [ColorInterp.gray]
    rest = [ColorInterp.undefined] * (colours - len(named))
    file.colorinterp = [*named, *rest, *([ColorInterp.alpha] if form.blank == "alpha" else [])]


def make_large_scene(
    path: Path,
    *,
    hw: HW = (30_000, 30_000),
    gsd_m: float = 0.1,
    seed: int = 0,
    form: RasterForm = RasterForm(),  # noqa: B008
) -> None:
    """Write one made-up scene of any size to `path` and its footprints beside it, suffix `.geojson`.

    One small settlement is repeated, by lot mirrored, turned, lighter or darker; one cell of it in twenty-five is
    blank. Memory does not grow with the height: some 300 MB for the default, which takes about a minute of one core and
    2.4 GB of disk. The same call writes the same bytes.
    """
    import rasterio
    from rasterio.windows import Window

    check_form(hw, form)
    side, rows = _CELL, _BLOCK
    rng = np.random.default_rng([seed, TRAIN])
    town = draw_town(rng, (side, side), gsd_m=gsd_m, share=0.15, inside=True)
    pattern = town_pixels(town, np.ones((side, side), bool), form)
    blank = town_pixels(town, np.zeros((side, side), bool), form)
    down, across = math.ceil(hw[0] / side), math.ceil(hw[1] / side)
    turn = rng.integers(0, 8, (down, across))
    light = rng.uniform(0.85, 1.1, (down, across))
    empty = rng.random((down, across)) < (0.0 if form.blank == "none" else 0.04)
    empty[0, 0] = False
    transform = transform_at(form.origin_lonlat, gsd_m, form)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Fast and light compression, for what matters here is only the size.
    with rasterio.open(path, "w", **profile(pattern, hw, transform, form), zlevel=1, num_threads="all_cpus") as file:
        describe(file, form)
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
                        _turned_points(ring, int(turn[row, column]), side) + np.array([column, row]) * side
                        for ring in building.rings
                    )
                    if (rings[0].min(0) < (hw[1], hw[0])).all():
                        standing.append(Building(rings))
            yield from to_lonlat(standing, transform, form.epsg)

    write_geojson(path.with_suffix(".geojson"), ((f, {"osm_id": n + 1}) for n, f in enumerate(footprints())))


_BLOCK = 256

_CELL = 1536
"""Height and width of the repeated settlement; a multiple of _BLOCK, whose rows are written at once."""


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
