"""Strips of probabilities of a raster -> strips of its mask, decided as if the raster were whole."""

from collections.abc import Iterator
from math import ceil

import numpy as np
from jaxtyping import UInt8

from segsmith.delivery.objects_in_strips import HolesInStrips, ObjectsInStrips
from segsmith.delivery.strip_files import StripFiles
from segsmith.modeling.bundle import Bundle, Cell
from segsmith.modeling.objective import most_probable
from segsmith.prediction.seams import SeamMeter
from segsmith.types import ClassMask, Mask


def decided_strips(
    opened: Bundle, probabilities: StripFiles, seams: SeamMeter, scale: float
) -> Iterator[tuple[int, Mask, ClassMask, UInt8[np.ndarray, "classes _rows _width"]]]:
    """The number of each strip, its mask by the bundle's decision, which pixels are usable, and the probabilities, in
    two passes over a raster that is enlarged `scale` times for the networks; in three if holes are filled.

    The mask is what `masks.decided` makes of the whole raster: an object is as large as in all strips together, a hole
    does not reach the raster's border. Pixels that are not usable are background, also within a hole that is filled.
    """
    numbers = probabilities.numbers
    holes = [HolesInStrips(len(numbers)) for _ in opened.classes] if opened.decision.fill_holes else []
    objects = [ObjectsInStrips() for _ in opened.classes]
    cells = opened.decision.cells_of(len(opened.classes))
    thresholds = np.array([cell.level for cell in cells])[:, None, None]
    smallest = [_smallest_area(opened, cell, scale) for cell in cells]

    def over_threshold(number: int) -> tuple[UInt8[np.ndarray, "classes _rows _width"], Mask, ClassMask]:
        *planes, known = probabilities.read(number)
        levels, valid = np.stack(planes), known > 0
        chosen = most_probable(levels) if opened.recipe.data.exclusive else levels
        return levels, (chosen >= thresholds) & valid, valid

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
        levels, mask, valid = over_threshold(number)
        seams.add(probabilities.edges[number], levels, valid)
        for of_class, plane in zip(objects, filled(place, mask, valid), strict=True):
            of_class.add(plane)
    for place, number in enumerate(numbers):
        levels, mask, valid = over_threshold(number)
        planes = filled(place, mask, valid)
        kept = [of.without_small(place, *of_class) for of, *of_class in zip(objects, planes, smallest, strict=True)]
        yield number, np.stack(kept), valid, levels


def _smallest_area(opened: Bundle, cell: Cell, scale: float) -> int:
    """The smallest area of a class in pixels of the raster: it was tuned on pixels of chips, or of whole images."""
    tuned_at = 1.0 if opened.recipe.data.fit == "chip" else opened.sight.enlarged
    return ceil(cell.smallest_area / (scale / tuned_at) ** 2 - 1e-9)
