"""Labelled objects of an image -> where two of a class touch, or nearly do: what heads of kind border learn."""

import cv2
import numpy as np

from segsmith.data import rle
from segsmith.data.dataset import Dataset
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


def check_borders(dataset: Dataset) -> None:
    """Raise DataError unless the labels say which pixels are of one object, as run lengths, and soft labels where
    objects touch."""
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
    if "shape" in dataset.objects:
        raise DataError(
            "a head of kind border learns from labels that are run lengths, and these are polygons; leave the head out"
        )


def _count_near(near: np.ndarray, mask: ClassMask, disk: np.ndarray) -> None:
    """Add 1 where a mask reaches, up to 2, in place and only around it."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    reach = len(disk) // 2
    rows = slice(max(0, top - reach), top + height + reach)
    columns = slice(max(0, left - reach), left + width + reach)
    reached = cv2.dilate(mask[rows, columns].astype(np.uint8), disk)
    near[rows, columns] = np.minimum(2, near[rows, columns] + reached)
