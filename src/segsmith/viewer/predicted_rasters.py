"""Folders that `predict` wrote of rasters -> each raster with its files, and where its pixels lie on the earth."""

import json
from dataclasses import dataclass
from functools import cached_property
from math import ceil, isfinite, log2
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.warp import transform as warp_points

from segsmith.data.footprints import LONGITUDE_LATITUDE
from segsmith.data.rasters import EIGHT_BIT, REMOTE, Levels, RasterFacts, common_levels, inspect_raster
from segsmith.delivery.predict import OVERLAY_COLOURS
from segsmith.delivery.vectors import FORMATS
from segsmith.errors import DataError, unreadable

TILE = 256
"""Pixels a tile's side."""
_KNOTS = 17
"""Along each side of a raster where its longitude and latitude are told; between them the page interpolates."""


@dataclass(frozen=True)
class PredictedRaster:
    """A raster that was predicted: what `prediction.json` says of it, and the files beside."""

    folder: Path
    source: str
    told: dict[str, object]

    @property
    def name(self) -> str:
        return Path(self.source).stem

    @property
    def probabilities(self) -> Path:
        return self.folder / "probabilities" / f"{self.name}.tif"

    @property
    def masks(self) -> Path:
        return self.folder / "masks" / f"{self.name}.tif"

    @property
    def objects(self) -> Path | None:
        """The file of its polygons, where there is one: of several the one that is read quickest."""
        files = (self.folder / "objects" / f"{self.name}.{suffix}" for suffix in FORMATS)
        return next((file for file in files if file.is_file()), None)

    @property
    def image(self) -> str | Path:
        """Where the raster itself should be: what `predict` was given is tried from here, then beside the folder."""
        if self.source.startswith(REMOTE) or Path(self.source).is_file():
            return self.source
        beside = self.folder.parent / Path(self.source).name
        return beside if beside.is_file() else self.source

    @cached_property
    def facts(self) -> RasterFacts:
        """Size and place, as the probabilities have them. Raises DataError where they do not read."""
        return inspect_raster(self.probabilities)

    @cached_property
    def classes(self) -> list[str]:
        objects = self.told.get("foreground_pixels")
        return list(objects) if isinstance(objects, dict) else []

    @property
    def thresholds(self) -> list[int] | None:
        """The level at which the masks begin, by class; None from a `predict` that did not tell."""
        told = self.told.get("thresholds")
        return [int(told[name]) for name in self.classes] if isinstance(told, dict) else None

    @property
    def deepest(self) -> int:
        """The zoom at which a pixel of a tile is one of the raster; at zoom 0 a single tile holds all of it."""
        return max(0, ceil(log2(max(self.facts.hw) / TILE)))

    @cached_property
    def image_levels(self) -> Levels:
        """What the bands of the raster itself are stretched by: as the networks saw them, else as measured."""
        told = self.told.get("levels")
        if isinstance(told, list):
            low, high = told
            return Levels(tuple(low), tuple(high))
        facts = inspect_raster(self.image)
        return EIGHT_BIT if facts.dtype == "uint8" else common_levels([facts])

    def check_image(self) -> None:
        """Raise DataError where the raster itself is gone, does not read, or is another one by now."""
        facts = inspect_raster(self.image)
        if facts.hw != self.facts.hw:
            raise DataError(
                f"{self.image}: is {facts.hw[0]} x {facts.hw[1]} pixels, the prediction {self.facts.hw[0]} x "
                f"{self.facts.hw[1]}; it was changed since, predict it again"
            )

    def is_of_same(self, other: "PredictedRaster") -> bool:
        """Whether another prediction is of the same raster: of a file of this name, on the same pixels. Raises
        DataError where the probabilities of one do not read."""
        if Path(self.source).name != Path(other.source).name:
            return False
        mine, theirs = self.facts, other.facts
        return (mine.hw, mine.crs, mine.transform) == (theirs.hw, theirs.crs, theirs.transform)

    def place(self) -> Float[np.ndarray, "knots knots 2"] | None:
        """Longitude and latitude in degrees of evenly spaced points of the raster, from corner to corner, rows first;
        None where it has no CRS, or lies beyond its reach. Longitudes do not jump at 180."""
        if self.facts.crs is None:
            return None
        height, width = self.facts.hw
        x, y = np.meshgrid(np.linspace(0, width, _KNOTS), np.linspace(0, height, _KNOTS))
        try:
            a, b, c, d, e, f = self.facts.transform
            there = (a * x + b * y + c).ravel(), (d * x + e * y + f).ravel()
            degrees = np.array(warp_points(self.facts.crs, LONGITUDE_LATITUDE, *there))
        except (RasterioError, CPLE_BaseError):
            return None
        if not np.isfinite(degrees).all():
            return None
        degrees[0] = np.unwrap(degrees[0], period=360)
        return np.ascontiguousarray(degrees.T).reshape(_KNOTS, _KNOTS, 2)

    def described(self) -> dict[str, object]:
        """What the page is told, as JSON. Raises DataError where the probabilities do not read."""
        place = self.place()
        gsd_m = self.facts.gsd_m
        return {
            "name": self.name,
            "folder": str(self.folder),
            "source": self.source,
            "hw": self.facts.hw,
            "bands": self.told.get("bands"),
            "deepest": self.deepest,
            "classes": [
                {
                    "name": name,
                    "colour": "#{:02x}{:02x}{:02x}".format(*OVERLAY_COLOURS[number % len(OVERLAY_COLOURS)]),
                    "threshold": self.thresholds[number] if self.thresholds else None,
                }
                for number, name in enumerate(self.classes)
            ],
            "transform": self.facts.transform,
            "crs": self.facts.crs,
            "gsd_m": gsd_m if isfinite(gsd_m) else None,
            "place": None if place is None else place.round(9).tolist(),
            "objects": self.told.get("objects"),
            "usable_pixels": self.told.get("usable_pixels"),
            "foreground_pixels": self.told.get("foreground_pixels"),
        }


def predicted_rasters(folder: Path) -> list[PredictedRaster]:
    """The rasters of a prediction, in order. Raises DataError for a prediction.json that no prediction of rasters
    wrote."""
    file = folder / "prediction.json"
    try:
        return [PredictedRaster(folder, str(told["raster"]), told) for told in json.loads(file.read_text())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(unreadable(file, "what `predict` says of rasters", error)) from None
