"""A predicted raster -> tiles of 256 pixels, in the raster's own grid: what a page shows of it, in memory of a tile.

Zoom `deepest` shows a pixel of the raster as one of the tile; each zoom below has half as many, and zoom 0 fits in a
single tile. They come from the overviews of the files: probabilities are means, masks nearest pixels, as `predict`
wrote them. No pixel is reprojected, whichever way is north.
"""

import gzip
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from segsmith.data.images import as_rgb
from segsmith.data.rasters import EIGHT_BIT, Levels, overview_factors, read_shrunk
from segsmith.data.windows import Window
from segsmith.errors import DataError
from segsmith.types import HW
from segsmith.viewer.predicted_rasters import TILE, PredictedRaster

MOST_SHRUNK = 4
"""How many times a file is shrunk beyond its coarsest overview for a tile: 1024 pixels a side are read for one."""

Planes = UInt8[np.ndarray, "_planes 256 256"]


def tile_window(hw: HW, shrunk: int, x: int, y: int) -> Window:
    """What a tile shows of a raster of `hw` pixels shrunk `shrunk` times. Raises DataError for one outside."""
    small = -(-hw[0] // shrunk), -(-hw[1] // shrunk)
    window = Window(y * TILE, x * TILE, TILE, TILE).inside(small)
    if x < 0 or y < 0 or not window.height or not window.width:
        raise DataError(f"tile {x}, {y}: lies outside the raster")
    return window


def coarsest(raster: PredictedRaster, file: str | Path) -> int:
    """The lowest zoom whose tiles can be made from a file without reading more than a few million pixels each."""
    far = max([1, *overview_factors(file)]) * MOST_SHRUNK
    return max(0, raster.deepest - (far.bit_length() - 1))


def image_tile(raster: PredictedRaster, file: str | Path, zoom: int, x: int, y: int) -> bytes:
    """The raster itself as RGBA, a PNG: transparent where it has no pixel. Bands of more than 8 bits are stretched as
    the networks saw them. Raises DataError where it is gone or does not read, or for a tile that does not exist."""
    image, valid = _read(raster, file, zoom, x, y, raster.image_levels)
    whole = np.zeros((TILE, TILE, 4), np.uint8)
    height, width = valid.shape
    whole[:height, :width, :3] = as_rgb(image)
    whole[:height, :width, 3] = valid * np.uint8(255)
    _, png = cv2.imencode(".png", cv2.cvtColor(whole, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return png.tobytes()


def level_tile(raster: PredictedRaster, zoom: int, x: int, y: int) -> Planes:
    """Probabilities 0..255, a plane per class, and behind them 255 where they are known, 0 elsewhere. Raises
    DataError."""
    return _planes(*_read(raster, raster.probabilities, zoom, x, y))


def mask_tile(raster: PredictedRaster, zoom: int, x: int, y: int) -> Planes:
    """Masks, 255 for foreground and 0 elsewhere, a plane per class, and behind them 255 where they are known. Raises
    DataError."""
    masks, valid = _read(raster, raster.masks, zoom, x, y, nearest=True)
    return _planes((masks == 1) * np.uint8(255), valid)


def packed(planes: Planes) -> bytes:
    """The planes one after the other, row by row, as gzip: for a browser they are bytes again."""
    return gzip.compress(planes.tobytes(), compresslevel=1, mtime=0)


def _read(
    raster: PredictedRaster,
    file: str | Path,
    zoom: int,
    x: int,
    y: int,
    levels: Levels = EIGHT_BIT,
    *,
    nearest: bool = False,
) -> tuple[UInt8[np.ndarray, "height width bands"], np.ndarray]:
    if not coarsest(raster, file) <= zoom <= raster.deepest:
        raise DataError(f"zoom {zoom}: tiles of {file} begin at {coarsest(raster, file)} and end at {raster.deepest}")
    shrunk = 1 << (raster.deepest - zoom)
    return read_shrunk(file, tile_window(raster.facts.hw, shrunk, x, y), shrunk, levels, nearest=nearest)


def _planes(planes: UInt8[np.ndarray, "height width bands"], valid: np.ndarray) -> Planes:
    height, width, bands = planes.shape
    whole = np.zeros((bands + 1, TILE, TILE), np.uint8)
    whole[:bands, :height, :width] = planes.transpose(2, 0, 1)
    whole[bands, :height, :width] = valid * np.uint8(255)
    return whole
