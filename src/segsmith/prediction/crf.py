"""Probabilities + their image -> probabilities that follow the edges of the image: a dense conditional random field.

Of Krähenbühl and Koltun ("Efficient inference in fully connected CRFs with Gaussian edge potentials", 2011): every
pixel draws every other towards its own label, the more so the nearer it lies and the more alike their grey levels are.
Solved by mean field; the sums over all pixels are taken on a bilateral grid (Chen, Paris and Durand 2007), in time
linear in pixels.
"""

import cv2
import numpy as np
from jaxtyping import Float32

from segsmith.recipe import Crf
from segsmith.types import Image

ITERATIONS = 5
"""Of mean field; the paper takes ten, and sees little change after five."""
FINEST = 4
"""Pixels of the grid in which `reach_px` lies; the sum over farther ones is smooth enough for that."""
SURE = 0.5 / 255
"""What no probability falls below, nor comes nearer to 1: half a level, since they are read from levels."""

Labels = Float32[np.ndarray, "labels height width"]


def refined(
    probabilities: Float32[np.ndarray, "classes height width"], image: Image, options: Crf, *, exclusive: bool
) -> Float32[np.ndarray, "classes height width"]:
    """Probabilities 0..1 of the classes of an image of the same size, refined by the mean of its bands.

    Classes that may overlap are refined each by itself, `exclusive` ones together with the background.
    """
    of_labels = np.clip(probabilities, SURE, 1 - SURE)
    kernels = _Kernels(image.mean(axis=2, dtype=np.float32), options)
    if exclusive:
        background = np.clip(1 - of_labels.sum(axis=0, keepdims=True), SURE, 1)
        return _mean_field(np.concatenate([background, of_labels]), kernels)[1:]
    return np.concatenate([_mean_field(np.stack([1 - plane, plane]), kernels)[1:] for plane in of_labels])


def _mean_field(probabilities: Labels, kernels: "_Kernels") -> Labels:
    unary = np.log(probabilities)
    likely = probabilities
    for _ in range(ITERATIONS):
        energy = unary + np.stack([kernels.drawn_to(label) for label in likely])
        energy -= energy.max(axis=0)
        likely = np.exp(energy)
        likely /= likely.sum(axis=0)
    return likely


class _Kernels:
    """How strongly each pixel is drawn to a label, by how probable the label is everywhere."""

    def __init__(self, grey: Float32[np.ndarray, "height width"], options: Crf):
        self.options = options
        height, width = grey.shape
        self.hw = height, width
        shrink = max(1.0, options.reach_px / FINEST)
        self.grid_hw = max(1, round(height / shrink)), max(1, round(width / shrink))
        self.grid_reach = options.reach_px / shrink
        place = grey / options.levels
        self.lower = np.floor(place).astype(np.int64)
        self.upper_share = (place - self.lower).astype(np.float32)
        self.slices = int(255 / options.levels) + 2
        self.row, self.column = np.mgrid[:height, :width]
        self.weight = self._alike(np.ones_like(grey))

    def drawn_to(self, label: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
        near = cv2.GaussianBlur(label, (0, 0), self.options.near_px, borderType=cv2.BORDER_REFLECT)
        return np.asarray(self.options.alike * self._alike(label) / self.weight + self.options.near * near)

    def _alike(self, values: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
        """The sum of values over the pixels around, weighted by nearness and likeness, up to a factor of each pixel."""
        grid = np.zeros((self.slices, *self.hw), np.float32)
        grid[self.lower, self.row, self.column] = values * (1 - self.upper_share)
        grid[self.lower + 1, self.row, self.column] = values * self.upper_share
        blurred = [self._spread(plane) for plane in grid]
        padded = np.pad(blurred, ((1, 1), (0, 0), (0, 0)))
        along = padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4
        of_lower = along[self.lower, self.row, self.column] * (1 - self.upper_share)
        return np.asarray(of_lower + along[self.lower + 1, self.row, self.column] * self.upper_share)

    def _spread(self, plane: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
        small = cv2.resize(plane, self.grid_hw[::-1], interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), self.grid_reach, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(cv2.resize(small, self.hw[::-1], interpolation=cv2.INTER_LINEAR))
