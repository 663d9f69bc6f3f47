"""Seed -> the scenes of one area and their footprints, in memory."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segsmith.data.scenes.aerial import Building, draw_town
from segsmith.data.scenes.fields import fractal
from segsmith.data.scenes.footprints import METRES_PER_DEGREE, Footprint, to_lonlat
from segsmith.data.scenes.rasters import Pixels, RasterForm, town_pixels, transform_at
from segsmith.types import HW, ClassMask

if TYPE_CHECKING:
    from affine import Affine


class Scene(NamedTuple):
    pixels: Pixels
    transform: "Affine"
    buildings: tuple[Building, ...]
    moved: NDArray[np.float64]
    """Degrees east and north by which the footprints lie off."""

    def footprints(self, form: RasterForm, buildings: Sequence[Building] | None = None) -> list[Footprint]:
        """The labels of these buildings, or of all."""
        true = to_lonlat(self.buildings if buildings is None else buildings, self.transform, form.epsg)
        return [tuple(ring + self.moved for ring in footprint) for footprint in true]


def draw_area(
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
) -> Iterator[Scene]:
    """The scenes of an area, from west to east, one at a time."""
    lon, lat = form.origin_lonlat[0] + 0.03 * number, form.origin_lonlat[1] - 0.03 * tier
    for n in range(scenes):
        rng = np.random.default_rng([*seed_stream, number, n])
        gsd = gsds_m[n % len(gsds_m)]
        town = draw_town(rng, hw, gsd_m=gsd, share=share)
        valid = np.ones(hw, bool) if form.blank == "none" else _flown(rng, hw)
        transform = transform_at((lon, lat), gsd, form)
        buildings, moved = town.buildings, np.zeros(2)
        if tier:
            buildings = tuple(b for b in buildings if rng.random() >= missing)
            moved = np.array([shift_m[0] / math.cos(math.radians(lat)), shift_m[1]]) / METRES_PER_DEGREE
        yield Scene(town_pixels(town, valid, form), transform, buildings, moved)
        # Room for the houses that cross the border, and for a turned scene.
        lon += (math.hypot(*hw) * gsd + 80) / math.cos(math.radians(lat)) / METRES_PER_DEGREE


def _flown(rng: np.random.Generator, hw: HW) -> ClassMask:
    """Where the drone has been: all but a ragged side or corner of 3 to 12 % of the image."""
    angle = rng.uniform(0, math.tau)
    y, x = np.mgrid[0 : hw[0], 0 : hw[1]].astype(np.float32)
    off = x * math.cos(angle) + y * math.sin(angle) + 0.01 * max(hw) * fractal(rng, hw, slope=1.5, longest=max(hw) / 4)
    return np.asarray(off < np.quantile(off[::4, ::4], rng.uniform(0.88, 0.97)))


def area_name(number: int, tier: int) -> str:
    """Three letters, another one for each of the first areas of both tiers."""
    number = 2 * number + tier
    return "bdfgklmnprst"[number % 12] + "aeiou"[number // 12 % 5] + "mnrlks"[number // 60 % 6]
