"""A scene and its mask -> by how many pixels all labels lie beside what they label, if they do."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from segsmith.types import ClassMask, Image

SIGNIFICANT = 5.0
"""Deviations by which the best offset must stand out of the others tried; the best of a few thousand stands out by
about four by chance."""


@dataclass(frozen=True)
class LabelShift:
    """Where the labels lie, seen from the image: positive is too far down or right. Shift them by the negative."""

    dy: int
    """Pixels."""
    dx: int
    """Pixels."""
    significance: float
    """Deviations by which this offset stands out of all those tried."""
    metres: float | None
    """Its length on the ground, where the pixel size is known."""


def label_shift(image: Image, mask: ClassMask, *, reach_px: int = 32, gsd_m: float | None = None) -> LabelShift | None:
    """The constant offset of a mask against its image, at most `reach_px` pixels each way, to the nearest pixel.

    The mask's outline is laid over the slopes of the image at every offset, its sides against slopes across and its
    tops and bottoms against slopes down, so that it rests on outlines of the right direction; the offset is the one
    where the slopes beneath are steepest (cross-correlation by Fourier transform). None where no offset stands out, or
    where there is no outline: then nothing can be said. An offset of 0, 0 says that the labels fit. Memory is about 40
    bytes per pixel. Raises ValueError for a reach of half the image or more.
    """
    if not 0 < 2 * reach_px < min(mask.shape):
        raise ValueError(f"a reach must be 1 to less than half of {min(mask.shape)} pixels. Received: {reach_px}")
    grey = cv2.GaussianBlur(image[:, :, :3].mean(axis=2, dtype=np.float32), (0, 0), 1.0)
    drawn = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0)
    scores = np.zeros((2 * reach_px + 1, 2 * reach_px + 1), np.float32)
    for dx, dy in ((1, 0), (0, 1)):
        slope = np.abs(cv2.Sobel(grey, cv2.CV_32F, dx, dy, borderType=cv2.BORDER_REPLICATE))
        outline = np.abs(cv2.Sobel(drawn, cv2.CV_32F, dx, dy, borderType=cv2.BORDER_REPLICATE))
        if not outline.any():
            continue
        # against the slopes nearby: one glaring roof must not outvote a hundred others, nor a wood all houses
        nearby = cv2.blur(slope, (65, 65), borderType=cv2.BORDER_REFLECT)
        scores += _correlation(np.minimum(slope / (nearby + 1), 4), outline, reach_px)
    if not scores.any():
        return None
    # Slopes and outlines are blurs of a pixel or two; broad hills of the scores are chance, or shadows.
    peaked = scores - cv2.GaussianBlur(scores, (0, 0), 6.0)
    row, column = np.unravel_index(int(peaked.argmax()), peaked.shape)
    elsewhere = np.ones(peaked.shape, bool)
    elsewhere[max(0, row - 5) : row + 6, max(0, column - 5) : column + 6] = False
    rest = peaked[elsewhere]
    significance = float((peaked[row, column] - rest.mean()) / (rest.std() + 1e-9))
    if significance < SIGNIFICANT:
        return None
    down, right = reach_px - int(row), reach_px - int(column)
    metres = None if gsd_m is None else float(np.hypot(down, right) * gsd_m)
    return LabelShift(down, right, significance, metres)


def _correlation(
    slope: Float32[np.ndarray, "height width"], outline: Float32[np.ndarray, "height width"], reach_px: int
) -> Float32[np.ndarray, "offsets offsets"]:
    """The mean slope beneath the outline moved by -reach_px to reach_px pixels down (rows) and right (columns)."""
    hw = tuple(cv2.getOptimalDFTSize(length + 2 * reach_px) for length in slope.shape)
    padded = [
        cv2.copyMakeBorder(part, 0, hw[0] - part.shape[0], 0, hw[1] - part.shape[1], cv2.BORDER_CONSTANT, value=0)
        for part in (slope - slope.mean(), outline)
    ]
    spectra = [cv2.dft(part) for part in padded]
    product = cv2.mulSpectrums(spectra[0], spectra[1], 0, conjB=True)
    correlated = cv2.dft(product, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE)
    around = np.arange(-reach_px, reach_px + 1)
    return np.asarray(correlated[np.ix_(around, around)] / outline.sum(), np.float32)
