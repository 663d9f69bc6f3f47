"""Pixels of one image -> what makes it off-topic: contrast, blankness, roughness, brightness."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from segsmith.types import Image

Grey = Float32[np.ndarray, "_height _width"]

SIDE_PX = 256
"""The longer side at which images are looked at."""


class ImageMeasures(NamedTuple):
    """Grey levels are 0 to 255."""

    brightness: float
    """Mean grey level."""
    contrast: float
    """Grey levels between the darkest and the brightest fiftieth of the pixels."""
    structure: float
    """The same of the image smoothed over 5 x 5 pixels: what of the contrast is no noise of single pixels."""
    blank: float
    """Share of pixels that are black or white to the last level."""
    roughness: float
    """1 minus the correlation of neighbouring pixels, in the direction where they are more alike: about 1 for noise;
    0 for a uniform image."""


def small_grey(image: Image, side_px: int = SIDE_PX) -> Grey:
    """The mean of the first three bands at most, shrunk by area to `side_px` on the longer side."""
    grey = image[:, :, :3].mean(axis=2, dtype=np.float32)
    scale = side_px / max(grey.shape)
    if scale < 1:
        height, width = (max(1, round(length * scale)) for length in grey.shape)
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.float32)


def measure_image(image: Image) -> ImageMeasures:
    """What one image says about itself; nothing is compared yet."""
    grey = small_grey(image)
    low, high = np.percentile(grey, [2, 98])
    smooth_low, smooth_high = np.percentile(cv2.blur(grey, (5, 5), borderType=cv2.BORDER_REFLECT), [2, 98])
    return ImageMeasures(
        brightness=float(grey.mean()),
        contrast=float(high - low),
        structure=float(smooth_high - smooth_low),
        blank=float(((grey == 0) | (grey == 255)).mean()),
        roughness=1 - max(_correlation(grey[:, 1:], grey[:, :-1]), _correlation(grey[1:], grey[:-1])),
    )


def _correlation(first: Grey, second: Grey) -> float:
    """Of two images of one shape; 1 where either has no contrast."""
    a, b = first - first.mean(), second - second.mean()
    spread = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / spread if spread > 1e-3 * max(1, a.size) else 1.0
