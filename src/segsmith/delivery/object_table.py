"""Objects of images -> objects.csv: a row for each, with its area, score and oriented box."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from scipy.ndimage import find_objects

from segsmith.decision.masks import Labels


class ObjectRow(NamedTuple):
    """One object; the fields are the columns of objects.csv."""

    image_id: str
    object_class: str
    object: int
    """From 1 in each image and class, in the order of their first pixels, down the columns: that of the rows of a
    submission with a row per object."""
    area_px: int
    score: float
    """Mean probability of its pixels, 0 to 1."""
    x_px: float
    """The middle of the smallest rectangle around its pixels, from the image's left edge; `y_px` from its top."""
    y_px: float
    length_px: float
    """Its long side; `width_px` the short one."""
    width_px: float
    angle_deg: float
    """Of the long side, 0 to 180, counter-clockwise as seen, from the image's rows; in a raster whose top is north that
    is the angle of its polygons."""


HEADER = tuple("class" if name == "object_class" else name for name in ObjectRow._fields)


def object_rows(
    image_id: str, class_name: str, labels: Labels, levels: UInt8[np.ndarray, "height width"]
) -> list[ObjectRow]:
    """A row for each object of a class of an image; `levels` are its probabilities."""
    boxes = find_objects(labels)
    numbers, first = np.unique(labels.T, return_index=True)
    order = numbers[np.argsort(first)]
    rows = []
    for count, number in enumerate(order[order > 0].tolist(), start=1):
        box = boxes[number - 1]
        mask = labels[box] == number
        points = np.argwhere(mask)[:, ::-1] + (box[1].start, box[0].start)
        corners = np.concatenate([points + step for step in ((0, 0), (0, 1), (1, 0), (1, 1))])
        (x, y), sides, degrees = cv2.minAreaRect(corners.astype(np.float32))
        length, width = max(sides), min(sides)
        along = degrees if sides[0] >= sides[1] else degrees + 90  # of the long side, clockwise as seen
        rows.append(
            ObjectRow(
                image_id,
                class_name,
                count,
                len(points),
                round(float(levels[box][mask].mean()) / 255, 4),
                round(x, 2),
                round(y, 2),
                round(length, 2),
                round(width, 2),
                round(-along % 180, 1) % 180,
            )
        )
    return rows
