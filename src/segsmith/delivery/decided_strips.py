"""Strips of probabilities of a raster -> strips of its mask, decided as if the raster were whole."""

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from segsmith.delivery.objects_in_strips import HolesInStrips, ObjectsInStrips
from segsmith.delivery.strip_files import StripFiles
from segsmith.losses.objective import most_probable
from segsmith.modeling.bundle import Bundle, Cell
from segsmith.prediction.seams import SeamMeter
from segsmith.types import ClassMask, Mask


class DecidedStrip(NamedTuple):
    """Rows of a raster, from side to side."""

    number: int
    mask: Mask
    valid: ClassMask
    """Which pixels are usable."""
    planes: UInt8[np.ndarray, "planes _rows _width"]
    """The probabilities of the classes, and behind them of borders, where the strips hold these."""


def decided_strips(opened: Bundle, probabilities: StripFiles, seams: SeamMeter, scale: float) -> Iterator[DecidedStrip]:
    """The strips of a raster that is enlarged `scale` times for the networks, masked by the bundle's decision, in two
    passes; in three if holes are filled. In the strips of `probabilities` stand the classes, what is known (255, else
    0), and borders if these are needed.

    The mask is what `masks.decided` makes of the whole raster: an object is as large as in all strips together, a hole
    does not reach the raster's border. Pixels that are not usable are background, also within a hole that is filled.
    """
    numbers = probabilities.numbers
    holes = [HolesInStrips(len(numbers)) for _ in opened.classes] if opened.decision.fill_holes else []
    objects = [ObjectsInStrips() for _ in opened.classes]
    count = len(opened.classes)
    cells = opened.decision.cells_of(count)
    thresholds = np.array([cell.level for cell in cells])[:, None, None]
    smallest = [_smallest_area(opened, cell, scale) for cell in cells]

    def over_threshold(number: int) -> tuple[UInt8[np.ndarray, "planes _rows _width"], Mask, ClassMask]:
        read = probabilities.read(number)
        levels, valid = read[:count], read[count] > 0
        chosen = most_probable(levels) if opened.recipe.data.exclusive else levels
        return np.delete(read, count, axis=0), (chosen >= thresholds) & valid, valid

    def filled(place: int, mask: Mask, valid: ClassMask) -> Mask:
        if not holes:
            return mask
        return np.asarray(np.stack([of.filled(place, plane) for of, plane in zip(holes, mask, strict=True)]) & valid)

    if holes:
        for number in numbers:
            _, mask, _ = over_threshold(number)
            for of_holes, plane in zip(holes, mask, strict=True):
                of_holes.add(plane)
    for place, number in enumerate(numbers):
        planes, mask, valid = over_threshold(number)
        seams.add(probabilities.edges[number], planes[:count], valid)
        for of_class, plane in zip(objects, filled(place, mask, valid), strict=True):
            of_class.add(plane)
    for place, number in enumerate(numbers):
        planes, mask, valid = over_threshold(number)
        whole = filled(place, mask, valid)
        kept = [of.without_small(place, *of_class) for of, *of_class in zip(objects, whole, smallest, strict=True)]
        yield DecidedStrip(number, np.stack(kept), valid, planes)


def _smallest_area(opened: Bundle, cell: Cell, scale: float) -> int:
    """The smallest area of a class in pixels of the raster: it was tuned on pixels of chips, or of whole images."""
    tuned_at = 1.0 if opened.recipe.data.fit == "chip" else opened.sight.enlarged
    return ceil(cell.smallest_area / (scale / tuned_at) ** 2 - 1e-9)
