"""An uploaded GeoTIFF -> what `segsmith predict` makes of it, by way of a private folder."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Literal, TypeVar

import numpy as np
import rasterio
from jaxtyping import UInt8

from segsmith.data.rasters import check_place, raster_shape
from segsmith.data.windows import scaled_hw
from segsmith.decision.masks import connected_objects
from segsmith.delivery.predict import Masked
from segsmith.delivery.raster_files import check_bundle, predict_raster, raster_job
from segsmith.delivery.vectors import VectorFormat
from segsmith.errors import DataError, ModelError, ResolutionError
from segsmith.modeling.bundle import Bundle
from segsmith.prediction.probabilities import Predictor
from segsmith.service.limits import Limits, Place, RefusedError

Item = TypeVar("Item")

NAME = "raster"
"""Of the file an upload becomes; its sender has no say in it."""
THE_RASTER = Path("the raster")
LEAST_SCALE = 0.001
"""Enlargement below which a raster is none any more; also that of the command."""

RasterAnswer = Literal["geojson", "geotiff", "runs", "png"]


@dataclass(frozen=True)
class RasterQuestion:
    """What is asked of a raster, in the words of `segsmith predict`."""

    answer: RasterAnswer = "geojson"
    scale: float | None = None
    square: bool = False


class StoppedError(Exception):
    """Nobody waits for the raster any more."""


def predict_upload(
    bundle: Bundle, predictor: Predictor, content: bytes, question: RasterQuestion,
    extra: UInt8[np.ndarray, " extra"], limits: Limits, place: Place, scratch: Path, stop: Event,
) -> bytes | Masked:  # fmt: skip
    """The file that `predict` would write, or the mask, of a GeoTIFF.

    GDAL is told to read it with its driver for GeoTIFF alone, whatever it is, so no file that names others is followed;
    beside it lies nothing. Raises RefusedError, DataError, ModelError, and StoppedError soon after `stop` is set.
    """
    check_bundle(bundle, THE_RASTER)
    with TemporaryDirectory(dir=scratch) as folder:
        file = Path(folder, f"{NAME}.tif")
        file.write_bytes(content)
        try:
            return _predicted(bundle, predictor, file, question, extra, limits, place, stop)
        except (DataError, ModelError) as error:
            how = ": scale=FACTOR in the question" if isinstance(error, ResolutionError) else ""
            raise type(error)(str(error).replace(str(file), str(THE_RASTER)) + how) from error


def _predicted(
    bundle: Bundle, predictor: Predictor, file: Path, question: RasterQuestion,
    extra: UInt8[np.ndarray, " extra"], limits: Limits, place: Place, stop: Event,
) -> bytes | Masked:  # fmt: skip
    def watch(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
        for item in items:
            if stop.is_set():
                raise StoppedError
            yield item

    height, width, _ = raster_shape(file)
    limits.check_pixels((height, width), "the raster")
    check_place(file)
    job = raster_job(bundle, file, question.scale, extra)
    if job.scale < LEAST_SCALE:
        raise RefusedError(422, f"the raster would be enlarged {job.scale:.3g} times for the networks; nothing is left")
    seen_hw = scaled_hw(job.facts.hw, job.scale)
    limits.check_pixels(seen_hw, f"the raster, enlarged {job.scale:.3g} times for the networks,")
    if question.answer == "geojson" and not job.facts.crs:
        raise RefusedError(422, "the raster does not say where it lies (a CRS), so its objects have no coordinates")
    if question.answer == "runs" and takes_apart(bundle) and bundle.layout.one_row_per == "object":
        raise RefusedError(
            422,
            "objects of the raster that touch are taken apart, and run lengths of a raster are of what is connected; "
            "ask for geojson, or the mask as geotiff or png",
        )
    place.take(needed(bundle, job.facts.hw))
    result = file.with_name("result")
    vectors: tuple[VectorFormat, ...] = ("geojson",) if question.answer == "geojson" else ()
    done = predict_raster(bundle, predictor, job, file.with_name("work"), result, vectors, question.square, watch)
    if not done.usable_pixels:
        raise RefusedError(422, "the raster holds no usable pixel: all are nodata, masked, of alpha 0 or not finite")
    if question.answer == "geojson":
        return (result / "objects" / f"{NAME}.geojson").read_bytes()
    masks = result / "masks" / f"{NAME}.tif"
    if question.answer == "geotiff":
        return masks.read_bytes()
    with rasterio.open(masks) as planes:
        mask = np.asarray(planes.read() == 1)
    return Masked(mask, [connected_objects(plane) for plane in mask])


def needed(bundle: Bundle, hw: tuple[int, int]) -> int:
    """Bytes that an image of this size takes at the most, about: its bands, and of each plane two of floats and two of
    bytes; and what it takes to take the objects of a class apart."""
    return hw[0] * hw[1] * (len(bundle.mean) + 10 * len(bundle.planes) + 90 * takes_apart(bundle))


def takes_apart(bundle: Bundle) -> bool:
    """Whether objects that touch are taken apart, in any class."""
    return any(cell.depth for cell in bundle.decision.cells)
