"""Image -> image with Gaussian noise, from a table of normal numbers that is made once."""

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, Int64

from segsmith.types import Image

TABLE = 2**17


def noisy(image: Image, sigma: float, seed: int) -> Image:
    """Gaussian noise of deviation `sigma` grey levels added to every value, clipped to 0..255.

    Each row takes its numbers from a place in the table that `seed` says: several times faster than drawing them.
    """
    height, *rest = image.shape
    width = int(np.prod(rest))
    # rounding the noise is rounding the sum, since levels are whole
    levels = cv2.multiply(normals(width), float(sigma), dtype=cv2.CV_16S)[:, 0]
    rows = np.lib.stride_tricks.sliding_window_view(levels, width)[noise_places(seed, height)]
    return np.asarray(cv2.add(image.reshape(height, width), rows, dtype=cv2.CV_8U).reshape(image.shape))


def noise_places(seed: int, height: int) -> Int64[np.ndarray, " height"]:
    """Where in the table the numbers of each row begin."""
    return np.random.default_rng(seed).integers(0, TABLE, height)


@lru_cache(4)
def normals(width: int) -> Float32[np.ndarray, "table_and_width 1"]:
    """The table, which goes round for rows of `width` values."""
    return np.resize(np.random.default_rng(0).standard_normal((TABLE, 1), np.float32), (TABLE + width - 1, 1))
