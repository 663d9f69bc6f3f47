"""A chip with its truth and prediction -> a small picture of it for the gallery."""

import cv2
import numpy as np
from jaxtyping import UInt8

from segsmith.eda.pictures import HIT, MISSED
from segsmith.errors import DataError
from segsmith.types import ClassMask

LONGER_SIDE = 240
TRUTH, PREDICTION = MISSED, HIT
LINE = np.ones((5, 5), np.uint8)
"""Two pixels wide."""


def thumbnail(
    image: UInt8[np.ndarray, "height width 3"], truth: ClassMask, prediction: ClassMask | None
) -> UInt8[np.ndarray, "shown_height shown_width 3"]:
    """The RGB image at most LONGER_SIDE px a side: around the truth a line outside it, around the prediction one
    inside it, so that both are seen where they agree. Objects that shrink to less than a pixel keep one."""
    height, width = truth.shape
    scale = LONGER_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    drawn = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    true = _resized(truth, size)
    drawn[(cv2.dilate(true, LINE) > 0) & (true == 0) | (true > 0) & _at_edge(true)] = TRUTH
    if prediction is not None:
        found = _resized(prediction, size)
        drawn[(found > 0) & (cv2.erode(found, LINE, borderType=cv2.BORDER_CONSTANT, borderValue=0) == 0)] = PREDICTION
    return np.asarray(drawn)


def jpeg(picture: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """An RGB picture as JPEG, whose thin lines keep their colours. Raises DataError where OpenCV cannot."""
    whole = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    written, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88, *whole])
    if not written:
        raise DataError(f"a picture of shape {picture.shape} does not encode as JPEG")
    return data.tobytes()


def _at_edge(mask: UInt8[np.ndarray, "height width"]) -> ClassMask:
    """Where there is no outside for a line to run in."""
    edge = np.zeros(mask.shape, bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    return edge


def _resized(mask: ClassMask, size: tuple[int, int]) -> UInt8[np.ndarray, "shown_height shown_width"]:
    grey = mask.astype(np.uint8) * np.uint8(255)
    shrinks = mask.shape[1] > size[0]
    scaled = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    return np.asarray(scaled >= 64, np.uint8)
