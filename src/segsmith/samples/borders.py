"""Labelled objects of an image -> where two of a class touch, or nearly do: what heads of kind border learn."""

import cv2
import numpy as np
from jaxtyping import Int32

from segsmith.data import rle
from segsmith.data.dataset import Dataset
from segsmith.data.windows import Window
from segsmith.errors import DataError
from segsmith.types import ClassMask, Mask


def borders(dataset: Dataset, image: int, width_px: int) -> Mask:
    """Of each class the pixels that lie within `width_px` pixels (from middle to middle) of two or more of its
    objects, be they foreground or between; of the image at its own size. None for an unlabelled image.

    As the borders of U-Net's weight map (Ronneberger et al. 2015, arXiv 1505.04597), as a plane to be learnt. Raises
    DataError for labels that do not tell objects apart, see `check_borders`.
    """
    check_borders(dataset)
    hw = dataset.hw(image)
    near = np.zeros((len(dataset.classes), *hw), np.uint8)
    y, x = np.mgrid[-width_px : width_px + 1, -width_px : width_px + 1]
    disk = (x**2 + y**2 <= width_px**2).astype(np.uint8)
    class_ids = dataset.objects["class"].to_numpy()
    for row in range(dataset.first_object[image], dataset.first_object[image + 1]):
        runs = dataset.runs[dataset.offsets[row] : dataset.offsets[row + 1]]
        _count_near(near[class_ids[row]], rle.decode(runs, hw), disk)
    return near > 1


def polygon_borders(dataset: Dataset, image: int, width_px: int, window: Window, scale: float = 1.0) -> Mask:
    """The same of labels that are polygons, for a window on the grid of the image enlarged `scale` times: within
    `width_px` pixels of the image at its own size, and a pixel of that grid at the least. Equal to those of the whole
    image at that scale, cut. Memory is that of the window."""
    reach = max(1.0, width_px * scale)
    margin = int(reach)
    y, x = np.mgrid[-margin : margin + 1, -margin : margin + 1]
    disk = (x**2 + y**2 <= reach**2).astype(np.uint8)
    top, left, height, width = window
    around = Window(top - margin, left - margin, height + 2 * margin, width + 2 * margin)
    near = [_several_within(numbers, disk) for numbers in dataset.numbered(image, around, scale)]
    return np.stack(near)[:, margin : margin + height, margin : margin + width]


def check_borders(dataset: Dataset) -> None:
    """Raise DataError unless the labels say which pixels are of one object, and soft labels where objects touch."""
    taught = dataset.soft_labels
    if taught is not None and dataset.taught.any() and not (taught / "border-1").is_dir():
        raise DataError(
            f"a head of kind border learns where two objects touch, and the soft labels in {taught} do not say, since "
            "their teacher has no such head; leave it out, or label with a run that has one"
        )
    if dataset.layout.one_row_per != "object":
        raise DataError(
            f"a head of kind border learns where two objects touch, but in labels of layout {dataset.layout.name} a "
            "row is all of a class in an image; leave the head out"
        )


def _several_within(numbers: Int32[np.ndarray, "height width"], disk: np.ndarray) -> ClassMask:
    """Where two numbers above 0 or more stand below a disk around a pixel."""
    present, places = np.unique(numbers, return_inverse=True)
    ranks = places.reshape(numbers.shape).astype(np.float32)  # float32 holds each of them; int32 is not dilated
    ranks += 1 - (len(present) > 0 and present[0] == 0)  # 0 stays what no object is
    highest = cv2.dilate(ranks, disk)
    lowest = cv2.erode(np.where(ranks > 0, ranks, np.float32(np.inf)), disk)
    return np.asarray((highest > lowest) & (highest > 0))


def _count_near(near: np.ndarray, mask: ClassMask, disk: np.ndarray) -> None:
    """Add 1 where a mask reaches, up to 2, in place and only around it."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    reach = len(disk) // 2
    rows = slice(max(0, top - reach), top + height + reach)
    columns = slice(max(0, left - reach), left + width + reach)
    reached = cv2.dilate(mask[rows, columns].astype(np.uint8), disk)
    near[rows, columns] = np.minimum(2, near[rows, columns] + reached)
