"""A raster -> windows of it: a patchwork of what it shows where it is too large to be read, and shifted labels."""

from typing import NamedTuple

import numpy as np
import shapely

from segsmith.audit.registration import LabelShift, label_shift
from segsmith.data.dataset import Dataset
from segsmith.data.windows import Window
from segsmith.types import Image

PATCHES = 3
"""Windows a side of a patchwork."""
PATCH_PX = 1024
LABELS_PX = 4096
"""Pixels a side, at most, of the window in which labels are laid over the image."""
REACH_PX = 32
LEAST_PX = 4 * REACH_PX
"""Images narrower than this say nothing about a shift."""
LEAST_LABELS = 8
"""So few outlines fit somewhere else by chance."""


class ShiftedLabels(NamedTuple):
    shift: LabelShift
    window: Window
    """Where it was measured."""


def patchwork(dataset: Dataset, number: int) -> Image:
    """PATCHES x PATCHES windows of a raster, PATCH_PX a side, spread evenly and put side by side; 27 MB of RGB."""
    height, width = dataset.hw(number)
    tops, lefts = (np.linspace(0, max(0, length - PATCH_PX), PATCHES).astype(int) for length in (height, width))
    side_hw = min(PATCH_PX, height), min(PATCH_PX, width)
    rows = [
        np.concatenate([dataset.read(number, Window(int(top), int(left), *side_hw)).image for left in lefts], axis=1)
        for top in tops
    ]
    return np.concatenate(rows, axis=0)


def labels_window(dataset: Dataset, number: int) -> Window | None:
    """The window of at most LABELS_PX a side, of those half a side apart, in which most polygons of an image lie; None
    where no window holds LEAST_LABELS."""
    first, last = dataset.first_object[number : number + 2]
    hw = dataset.hw(number)
    side_hw = min(LABELS_PX, hw[0]), min(LABELS_PX, hw[1])
    if not dataset.of_polygons or last - first < LEAST_LABELS or min(side_hw) < LEAST_PX:
        return None
    centres = shapely.get_coordinates(shapely.centroid(shapely.from_wkb(list(dataset.objects["shape"][first:last]))))
    best, most = None, LEAST_LABELS - 1
    for top in _starts(hw[0], side_hw[0]):
        for left in _starts(hw[1], side_hw[1]):
            offset = centres - (left, top)
            held = int(((offset >= 0) & (offset < side_hw[::-1])).all(axis=1).sum())
            if held > most:
                best, most = Window(top, left, *side_hw), held
    return best


def shifted_labels(dataset: Dataset, number: int) -> ShiftedLabels | None:
    """The offset of an image's polygons against what they label, at most REACH_PX each way; None where nothing can be
    said. Memory is that of one window, some 700 MB at most. Raises DataError when the image cannot be read."""
    window = labels_window(dataset, number)
    if window is None:
        return None
    chip = dataset.read(number, window)
    gsd_m = float(dataset.images["gsd_m"].iloc[number])
    mask = np.asarray(chip.mask.any(axis=0))
    found = label_shift(chip.image, mask, reach_px=REACH_PX, gsd_m=gsd_m if np.isfinite(gsd_m) else None)
    return ShiftedLabels(found, window) if found else None


def _starts(length: int, side: int) -> list[int]:
    return sorted({*range(0, length - side + 1, max(1, side // 2)), length - side})
