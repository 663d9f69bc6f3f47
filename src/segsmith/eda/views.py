"""Dataset and image number -> a picture of it for a page; of a large raster a part of it, in bounded memory."""

from typing import NamedTuple

import numpy as np
from shapely import bounds, from_wkb

from segsmith.data.dataset import Dataset
from segsmith.data.images import LARGEST_PIXELS, as_rgb
from segsmith.data.windows import Window
from segsmith.eda.pictures import Picture, image_uri, outlined
from segsmith.types import HW, Mask

PART = 1024
"""Side of the part that is shown, in pixels."""
SHOWN_PX = 480
"""Longer side of a picture on the page, twice that of large images."""
LARGE_PX = 1000
"""Longer side of an image that is large."""
TINY_PX = 128
"""Images up to this size are enlarged, so that single pixels can be seen."""


class View(NamedTuple):
    """What is shown of an image."""

    image: Picture
    mask: Mask
    part: Window | None
    """Where it lies; None for the whole image."""

    @property
    def note(self) -> str:
        """For a caption: which part it is."""
        if self.part is None:
            return ""
        top, left, height, width = self.part
        return f" (a part of it: {height} x {width} pixels from row {top}, column {left})"


def view(dataset: Dataset, index: int, window: Window | None = None) -> View:
    """An image with its truth; of a raster of more than LARGEST_PIXELS the window, or PART pixels a side about its
    middle object. Raises DataError for a file that broke."""
    height, width = dataset.hw(index)
    if height * width <= LARGEST_PIXELS or not dataset.is_raster(index):
        return View(as_rgb(dataset.image(index)), dataset.mask(index), None)
    part = _around(window, (height, width)) if window else _middle(dataset, index)
    chip = dataset.read(index, part)
    return View(as_rgb(chip.image), chip.mask, part)


def view_uri(seen: View) -> str:
    """A view with its truth outlined, as a data URI."""
    drawn = outlined(seen.image, np.asarray(seen.mask.any(axis=0)))
    longest = max(drawn.shape[:2])
    return image_uri(
        drawn, max_side=2 * SHOWN_PX if longest > LARGE_PX else SHOWN_PX, enlarge=3 if longest <= TINY_PX else 1
    )


def _middle(dataset: Dataset, index: int) -> Window:
    """PART pixels a side about the middle one of an image's objects, or about the middle of an image without any."""
    hw = dataset.hw(index)
    first, last = dataset.first_object[index : index + 2]
    if first == last or not dataset.of_polygons:
        return _around(Window(hw[0] // 2, hw[1] // 2, 0, 0), hw)
    left, top, right, bottom = bounds(from_wkb(dataset.objects["shape"].iloc[(first + last) // 2]))
    return _around(Window(int(top), int(left), int(bottom - top), int(right - left)), hw)


def _around(window: Window, hw: HW) -> Window:
    """PART pixels a side, or as many as there are, about the middle of a window, within an image of `hw` pixels."""
    height, width = min(PART, hw[0]), min(PART, hw[1])
    top = min(max(0, window.top + (window.height - height) // 2), hw[0] - height)
    left = min(max(0, window.left + (window.width - width) // 2), hw[1] - width)
    return Window(top, left, height, width)
