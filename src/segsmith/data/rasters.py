"""Raster of any size -> its facts, and windows of it at any scale as 8-bit levels, in memory of the window.

A raster is a GeoTIFF by its suffix .tif or .tiff; whatever else GDAL reads may be given by name, also a remote one
(`/vsicurl/https://...`, `/vsizip/...`).
"""

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import cos, hypot, isfinite, radians, sin, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import rasterio
from jaxtyping import Bool, Float32, UInt8
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform as warp_points
from rasterio.windows import Window as FileWindow

from segsmith.data.resample import Taps, resampled, taps
from segsmith.data.windows import Window, panels, scaled_hw
from segsmith.errors import DataError
from segsmith.types import HW

SUFFIXES = frozenset({".tif", ".tiff"})
DTYPES = ("uint8", "uint16", "int16", "float32", "float64")
MOST_BANDS = 12
REMOTE = "/vsi"
"""How the names of GDAL's virtual files begin."""
CACHE_MB = 64
"""Decoded blocks that GDAL keeps; else a twentieth of all memory."""
QUANTILES = np.unique(np.concatenate([np.linspace(0, 1, 41), np.linspace(0, 0.02, 9), np.linspace(0.98, 1, 9)]))
RANGE = (0.005, 0.995)
"""Shares of the valid pixels of a source at or below level 0 and level 255."""

_SAMPLE_SIDE = 1024
_PIECE_BYTES = 2**24
_OPEN_FILES = 8

warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


class Levels(NamedTuple):
    """Per band the values that become level 0 and level 255; empty for 8-bit bands, which are levels already."""

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


EIGHT_BIT = Levels()


@dataclass(frozen=True)
class RasterFacts:
    """What a raster says of itself. `bands` leaves alpha out, `transform` takes pixel corners (x right, y down) to
    map coordinates as (a, b, c, d, e, f): x' = a x + b y + c, y' = d x + e y + f."""

    hw: HW
    bands: int
    dtype: str
    crs: str | None
    transform: tuple[float, float, float, float, float, float]
    gsd_m: float
    """Metres on the ground a pixel side, at the raster's centre; NaN without a CRS."""
    nodata: float | None
    file_bytes: int
    quantiles: tuple[tuple[float, ...], ...]
    """Per band the values at QUANTILES of its valid pixels, from at most 1024 x 1024 pixels spread evenly over the
    raster (taken from overviews where it has them); empty for 8-bit bands, or where no pixel is valid."""
    sides_m: tuple[float, float] = (float("nan"), float("nan"))
    """Metres on the ground along a pixel's row and along its column, at the raster's centre; NaN without a CRS."""


class LevelFacts(NamedTuple):
    """Mean and deviation per band of the levels of all valid pixels, 0 where there is none, and how many are valid."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    valid_pixels: int


def is_raster(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def inspect_raster(path: Path | str) -> RasterFacts:
    """The facts of a raster, without reading all its pixels; a remote one is given as a text, of 0 bytes.

    Raises DataError for a file that is missing or broken, and for bands of other number or type than 1 to 12 of uint8,
    uint16, int16, float32 or float64, with a colour table, or placed by control points alone (of which nothing that is
    written on the same grid would know).
    """
    with _reading(path) as file:
        if file.transform.is_identity and (file.gcps[0] or file.rpcs):
            raise DataError(f"{path}: is placed by control points; warp it to a CRS first (gdalwarp)")
        bands = _bands(file)
        dtypes = {file.dtypes[band - 1] for band in bands}
        if len(dtypes) != 1 or not dtypes <= set(DTYPES):
            raise DataError(
                f"{path}: bands of {', '.join(sorted(dtypes))}; one type of {', '.join(DTYPES)} is read, "
                "convert it (gdal_translate -ot)"
            )
        if not 1 <= len(bands) <= MOST_BANDS:
            raise DataError(f"{path}: {len(bands)} bands beside alpha; 1 to {MOST_BANDS} are read, pick some of them")
        if ColorInterp.palette in file.colorinterp:
            raise DataError(f"{path}: has a colour table; turn it into colours (gdal_translate -expand rgb)")
        dtype = dtypes.pop()
        gsd_m, sides_m = _ground_metres(file)
        return RasterFacts(
            hw=(file.height, file.width),
            bands=len(bands),
            dtype=dtype,
            crs=file.crs.to_string() if file.crs else None,
            transform=tuple(file.transform)[:6],
            gsd_m=gsd_m,
            nodata=file.nodata,
            file_bytes=0 if _is_remote(path) else Path(path).stat().st_size,
            quantiles=() if dtype == "uint8" else _quantiles(file),
            sides_m=sides_m,
        )


def common_levels(rasters: Sequence[RasterFacts]) -> Levels:
    """The range that rasters of one source and type share: 0.5 % to 99.5 % of all their valid pixels, per band.

    Rasters count by their pixels. Empty for 8-bit rasters; 0 to 1 where no pixel is valid.
    """
    if rasters[0].dtype == "uint8":
        return EIGHT_BIT
    low, high = [], []
    steps = np.diff(QUANTILES, prepend=0)
    told = [r for r in rasters if r.quantiles]
    for band in range(rasters[0].bands):
        values = np.array([r.quantiles[band] for r in told]).ravel()
        weights = np.concatenate([steps * r.hw[0] * r.hw[1] for r in told] or [np.empty(0)])
        order = np.argsort(values, kind="stable")
        shares = np.cumsum(weights[order])
        ends = np.interp(np.multiply(RANGE, shares[-1]), shares, values[order]) if len(values) else (0.0, 1.0)
        low.append(float(ends[0]))
        high.append(float(ends[1]))
    return Levels(tuple(low), tuple(high))


def measure_levels(path: Path, levels: Levels) -> LevelFacts:
    """Statistics of every valid pixel of a raster; every block is decoded, some 16 MB at a time.

    Raises DataError for a block that does not decode.
    """
    count, mean, squares = 0, np.zeros(0), np.zeros(0)
    with _reading(path) as file:
        for piece in _pieces(file):
            values, valid = _read_levels(file, piece, levels)
            here = int(valid.sum())
            if not here:
                continue
            image = values if values.dtype == np.uint8 else np.rint(values).astype(np.uint8)
            piece_mean, piece_std = (s.ravel() for s in cv2.meanStdDev(image, mask=valid.view(np.uint8)))
            if not count:
                mean, squares = np.zeros_like(piece_mean), np.zeros_like(piece_mean)
            moved = piece_mean - mean  # Chan, Golub, LeVeque 1979: two parts' variances joined
            squares += here * piece_std**2 + moved**2 * (count * here / (count + here))
            mean += moved * (here / (count + here))
            count += here
        if not count:
            mean = squares = np.zeros(len(_bands(file)))
    return LevelFacts(tuple(mean.tolist()), tuple(np.sqrt(squares / max(1, count)).tolist()), count)


def read_window(
    path: Path | str, window: Window, scale: float = 1.0, levels: Levels = EIGHT_BIT
) -> tuple[UInt8[np.ndarray, "height width bands"], Bool[np.ndarray, "height width"]]:
    """Levels of a window on the grid of the raster enlarged `scale` times, and which pixels are valid.

    Means when it shrinks, linear when it grows; only valid pixels are mixed, and what is not valid is 0. Valid are
    pixels inside the raster, of alpha other than 0, not masked, finite in every band, and not nodata: for unsigned
    bands where all bands hold that value (a dark pixel may be 0 in some), for others where any does. Raster and window
    keep the raster's own rows and columns, whichever way is north. Overviews are not used, since nobody knows how they
    were made. Memory is that of the window and some 16 MB, or one row of the window where that is more. Raises
    DataError for a file that does not read, and for bands of more than 8 bits without `levels`.
    """
    with _reading(path) as file:
        hw = file.height, file.width
        bands = len(_bands(file))
        image, valid = np.zeros((*window.hw, bands), np.uint8), np.zeros(window.hw, bool)
        new_hw = scaled_hw(hw, scale)
        inside = window.inside(new_hw)
        if inside.height and inside.width:
            columns, left, width = _shifted(taps(hw[1], new_hw[1], inside.left, inside.width))
            step = _rows_at_once(file, width, hw[0] / new_hw[0])
            first_column = inside.left - window.left
            for top in range(inside.top, inside.top + inside.height, step):
                count = min(step, inside.top + inside.height - top)
                rows, first_row, height = _shifted(taps(hw[0], new_hw[0], top, count))
                part = _read_levels(file, Window(first_row, left, height, width), levels)
                here = (
                    slice(top - window.top, top - window.top + count),
                    slice(first_column, first_column + inside.width),
                )
                image[here], valid[here] = resampled(*part, rows, columns)
    return image, valid


def read_valid(path: Path | str, window: Window) -> Bool[np.ndarray, "height width"]:
    """Which pixels of a window of the raster at its own size are valid, as in `read_window`. The window lies inside
    the raster; memory is that of the mask and of a panel's values. Raises DataError for a file that does not read."""
    with _reading(path) as file:
        return np.concatenate([_read_values(file, panel)[1] for panel in panels(window)], axis=1)


def overview_factors(path: Path | str) -> list[int]:
    """How much coarser each overview of a raster is than the raster, the finest first. Raises DataError for a file that
    does not read."""
    with _reading(path) as file:
        return [int(factor) for factor in file.overviews(1)]


def read_shrunk(
    path: Path | str, window: Window, shrunk: int, levels: Levels = EIGHT_BIT, *, nearest: bool = False
) -> tuple[UInt8[np.ndarray, "height width bands"], Bool[np.ndarray, "height width"]]:
    """Levels of a window of the raster shrunk `shrunk` times, and which pixels are valid: to look at, not to compute.

    The window is one of the grid of ceil(height / shrunk) x ceil(width / shrunk) pixels. Where the file has an overview
    of that size it is cut from it; else GDAL takes means (`nearest`: nearest pixels) of the next finer one, or of the
    raster itself. Valid is as in `read_window`. Memory is that of the window and GDAL's CACHE_MB. Raises DataError for
    a file that does not read.
    """
    with _reading(path) as file:
        small = -(-file.height // shrunk), -(-file.width // shrunk)
        number = file.overviews(1).index(shrunk) if shrunk in file.overviews(1) else None
    if number is not None:
        with _reading(path, overview=number) as file:
            if (file.height, file.width) == small:
                return _as_levels(file, *_read_values(file, window), levels)
    with _reading(path) as file:
        whole = Window(*(side * shrunk for side in window)).inside((file.height, file.width))
        how = Resampling.nearest if nearest or shrunk == 1 else Resampling.average
        return _as_levels(file, *_read_values(file, whole, window.hw, how), levels)


def has_place(path: Path) -> bool:
    """Whether an image file is a GeoTIFF that says where it lies. Raises DataError if it does not open."""
    with _reading(path) as file:
        return file.crs is not None


def check_place(path: Path) -> None:
    """Raise DataError for a raster whose place is not finite."""
    with _reading(path) as file:
        if not all(map(isfinite, tuple(file.transform)[:6])):
            raise DataError(f"{path}: lies at no finite place ({tuple(file.transform)[:6]})")


def local_files(path: Path | str) -> list[Path]:
    """The files on this machine that a raster is made of, itself first: of a virtual mosaic its scenes, too. What
    others note beside a raster (.aux.xml) is none of them. Raises DataError."""
    with _reading(path) as file:
        names = [name for name in file.files if not name.startswith(REMOTE) and not name.endswith(".aux.xml")]
    return [path for name in names if (path := Path(name)).is_file()]


def raster_shape(path: Path) -> tuple[int, int, int]:
    """Height, width and bands of a raster as the file has them now. Raises DataError if it does not open."""
    with _reading(path) as file:
        return file.height, file.width, len(_bands(file))


def _bands(file: Any) -> list[int]:
    """Numbers of the bands that are not alpha."""
    return [band for band, kind in zip(file.indexes, file.colorinterp, strict=True) if kind != ColorInterp.alpha]


def _rows_at_once(file: Any, width: int, shrink: float) -> int:
    bytes_per_row = width * file.count * (4 + np.dtype(file.dtypes[0]).itemsize) * max(1.0, shrink)
    return max(1, int(_PIECE_BYTES / bytes_per_row))


def _shifted(side: Taps) -> tuple[Taps, int, int]:
    """Taps counted from the first pixel they need, that pixel, and how many pixels they span."""
    first = int(side.pixels.min())
    return Taps(side.pixels - first, side.weights), first, int(side.pixels.max()) - first + 1


def _pieces(file: Any) -> Iterator[Window]:
    """The file in whole blocks, as many at a time as make up _PIECE_BYTES."""
    block_height, block_width = file.block_shapes[0]
    pixels = _PIECE_BYTES // (file.count * np.dtype(file.dtypes[0]).itemsize)
    width = min(file.width, block_width * max(1, pixels // (block_height * block_width)))
    height = min(file.height, block_height * max(1, pixels // (block_height * width)))
    for top in range(0, file.height, height):
        for left in range(0, file.width, width):
            yield Window(top, left, min(height, file.height - top), min(width, file.width - left))


def _read_levels(
    file: Any, window: Window, levels: Levels
) -> tuple[UInt8[np.ndarray, "h w bands"] | Float32[np.ndarray, "h w bands"], Bool[np.ndarray, "h w"]]:
    """A window on the file's own grid: uint8 as it is, other types as unrounded levels 0..255."""
    return _unrounded(file, *_read_values(file, window), levels)


def _as_levels(
    file: Any, values: np.ndarray, valid: Bool[np.ndarray, "h w"], levels: Levels
) -> tuple[UInt8[np.ndarray, "h w bands"], Bool[np.ndarray, "h w"]]:
    mapped, valid = _unrounded(file, values, valid, levels)
    return np.rint(mapped).astype(np.uint8) * valid[..., None], valid


def _unrounded(
    file: Any, values: np.ndarray, valid: Bool[np.ndarray, "h w"], levels: Levels
) -> tuple[UInt8[np.ndarray, "h w bands"] | Float32[np.ndarray, "h w bands"], Bool[np.ndarray, "h w"]]:
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values.transpose(1, 2, 0)), valid
    if len(levels.low) != len(values):
        raise DataError(
            f"{file.name}: {values.dtype} pixels of {len(values)} bands, but a range of levels for {len(levels.low)}; "
            "inspect the raw folder again"
        )
    mapped = np.empty((*valid.shape, len(values)), np.float32)
    for band, (plane, low, high) in enumerate(zip(values, levels.low, levels.high, strict=True)):
        span = high - low
        clipped = np.clip(np.where(valid, plane, low).astype(np.float64), low, high)
        mapped[..., band] = (clipped - low) * (255 / span) if span > 0 else 0
    return mapped, valid


def _read_values(
    file: Any, window: Window, shape: HW | None = None, resampling: Resampling = Resampling.nearest
) -> tuple[np.ndarray, Bool[np.ndarray, "h w"]]:
    """Bands first as the file has them, and what is valid; resampled where `shape` is smaller than the window."""
    there = FileWindow(window.left, window.top, window.width, window.height)
    bands = _bands(file)
    alphas = [band for band in file.indexes if band not in bands]
    shape = shape or window.hw
    read = file.read([*bands, *alphas], window=there, out_shape=(file.count, *shape), resampling=resampling)
    values, alpha = read[: len(bands)], read[len(bands) :]
    valid = (alpha != 0).all(axis=0)
    if not alphas and MaskFlags.per_dataset in file.mask_flag_enums[0]:
        valid &= file.read_masks(1, window=there, out_shape=shape) != 0
    if np.issubdtype(values.dtype, np.floating):
        valid &= np.isfinite(values).all(axis=0)
    if file.nodata is not None and isfinite(file.nodata):
        absent = values == np.asarray(file.nodata).astype(values.dtype)
        valid &= ~(absent.all(axis=0) if np.issubdtype(values.dtype, np.unsignedinteger) else absent.any(axis=0))
    return values, valid


def _quantiles(file: Any) -> tuple[tuple[float, ...], ...]:
    shape = min(file.height, _SAMPLE_SIDE), min(file.width, _SAMPLE_SIDE)
    values, valid = _read_values(file, Window(0, 0, file.height, file.width), shape)
    if not valid.any():
        return ()
    return tuple(tuple(np.quantile(plane[valid].astype(np.float64), QUANTILES).tolist()) for plane in values)


def _ground_metres(file: Any) -> tuple[float, tuple[float, float]]:
    """Metres a pixel side on the WGS 84 ellipsoid at the raster's centre, the root of a pixel's area there; and those
    of each side."""
    unknown = float("nan"), (float("nan"), float("nan"))
    if not file.crs:
        return unknown
    x, y = file.width / 2, file.height / 2
    a, b, c, d, e, f = tuple(file.transform)[:6]
    points = [(x - 0.5, y), (x + 0.5, y), (x, y - 0.5), (x, y + 0.5)]
    corners = [a * x + b * y + c for x, y in points], [d * x + e * y + f for x, y in points]
    try:
        longitudes, latitudes = warp_points(file.crs, "EPSG:4326", *corners)
    except (RasterioError, CPLE_BaseError):  # a CRS of its own, or a place beyond its reach
        return unknown
    if not all(map(isfinite, (*longitudes, *latitudes))):
        return unknown
    latitude = radians(sum(latitudes) / 4)
    squashed = 1 - 0.00669437999014 * sin(latitude) ** 2
    per_longitude = radians(1) * 6378137.0 / sqrt(squashed) * cos(latitude)
    per_latitude = radians(1) * 6378137.0 * (1 - 0.00669437999014) / squashed**1.5
    east = [((b - a + 180) % 360 - 180) * per_longitude for a, b in (longitudes[:2], longitudes[2:])]
    north = [(b - a) * per_latitude for a, b in (latitudes[:2], latitudes[2:])]
    area = abs(east[0] * north[1] - east[1] * north[0])
    return sqrt(area), (hypot(east[0], north[0]), hypot(east[1], north[1]))


class _OpenFiles(threading.local):
    """The last few files this thread of this process read; a forked process opens its own, since a file's position
    is shared with the process it came from."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.files: OrderedDict[tuple[str, int, int, int | None], Any] = OrderedDict()
        self.inherited: list[Any] = []

    def get(self, path: Path | str, overview: int | None) -> Any:
        if self.process != os.getpid():
            self.inherited.append(self.files)  # never closed here: they are the parent's
            self.process, self.files = os.getpid(), OrderedDict()
        state = None if _is_remote(path) else Path(path).stat()
        if state and not Path(path).is_file():
            raise OSError("it is no file")  # of a pipe one would wait for ever
        key = (str(path), *((state.st_size, state.st_mtime_ns) if state else (0, 0)), overview)
        if key not in self.files:
            driver = "GTiff" if is_raster(Path(path)) else None  # nothing else hides behind the suffix of a GeoTIFF
            options = {} if overview is None else {"overview_level": overview}
            self.files[key] = rasterio.open(path, driver=driver, sharing=False, **options)
            if len(self.files) > _OPEN_FILES:
                self.files.popitem(last=False)[1].close()
        self.files.move_to_end(key)
        return self.files[key]


_open_files = _OpenFiles()


@contextmanager
def _reading(path: Path | str, overview: int | None = None) -> Iterator[Any]:
    """The open file, or one of its overviews; what GDAL says stays out of the terminal, what it raises comes as
    DataError."""
    try:
        with rasterio.Env(
            GDAL_DISABLE_READDIR_ON_OPEN="TRUE",
            GDAL_CACHEMAX=CACHE_MB,
            GDAL_PAM_ENABLED="NO",  # nothing is ever written beside the raw files
        ):
            yield _open_files.get(path, overview)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (RasterioError, CPLE_BaseError, OSError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        kind = "GeoTIFF" if is_raster(Path(path)) else "raster"
        raise DataError(f"{path}: does not read as a {kind} ({reason}); get a whole copy of it") from None


def _is_remote(path: Path | str) -> bool:
    return str(path).startswith(REMOTE)
