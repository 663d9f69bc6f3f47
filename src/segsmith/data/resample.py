"""Pixels of a raster and which of them are valid -> the same on a finer or coarser grid, window by window alike.

Weights follow from whole numbers alone (the sizes of both grids and the pixel's number), never from where a window
starts, so that windows agree with the whole to the last bit.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8


class Taps(NamedTuple):
    """What each pixel of one side of the new grid is made of: pixels of the old grid, and their weights (sum 1)."""

    pixels: Int[np.ndarray, "new taps"]
    weights: Float32[np.ndarray, "new taps"]


def taps(old: int, new: int, first: int, count: int) -> Taps:
    """What pixels `first` to `first + count` are made of when `old` pixels become `new`.

    Shrinking takes the mean over what a pixel covers, with its parts of pixels; growing is linear between pixel
    centres, and the edge goes on beyond the outermost centre.
    """
    i = np.arange(first, first + count, dtype=np.int64)[:, None]
    if new == old:
        return Taps(i, np.ones((count, 1), np.float32))
    if new < old:
        pixels = i * old // new + np.arange(-(-old // new) + 1)
        overlap = np.minimum((i + 1) * old, (pixels + 1) * new) - np.maximum(i * old, pixels * new)
        used = np.where(overlap > 0, pixels, pixels[:, :1])  # what weighs nothing need not be read
        return Taps(used, (np.maximum(overlap, 0) / old).astype(np.float32))
    centre = (2 * i + 1) * old - new  # in units of 1 / (2 * new) old pixels
    left = centre // (2 * new)
    right_share = (centre - left * 2 * new) / (2 * new)
    pixels = np.clip(np.concatenate([left, left + 1], axis=1), 0, old - 1)
    return Taps(pixels, np.concatenate([1 - right_share, right_share], axis=1).astype(np.float32))


def resampled(
    levels: UInt8[np.ndarray, "h w bands"] | Float32[np.ndarray, "h w bands"],
    valid: Bool[np.ndarray, "h w"],
    rows: Taps,
    columns: Taps,
) -> tuple[UInt8[np.ndarray, "new_h new_w bands"], Bool[np.ndarray, "new_h new_w"]]:
    """Levels 0..255 on the new grid, rounded; `rows` and `columns` number the pixels of `levels`.

    Only valid pixels are mixed. A new pixel is valid when at least half of what it is made of is; others are 0.
    """
    if rows.pixels.shape[1] == columns.pixels.shape[1] == 1:
        chosen = np.ix_(rows.pixels[:, 0], columns.pixels[:, 0])
        image, there = levels[chosen], valid[chosen]
        image = image if image.dtype == np.uint8 else np.rint(image).astype(np.uint8)
        return np.where(there[..., None], image, np.uint8(0)), there
    if valid.all():
        mixed = mixture(levels, rows, columns)
        return np.rint(mixed).astype(np.uint8), np.ones(mixed.shape[:2], bool)
    mixed = mixture(np.where(valid[..., None], levels, levels.dtype.type(0)), rows, columns)
    share = mixture(valid[..., None].astype(np.float32), rows, columns)
    partly = share < 1 - 1e-5  # elsewhere the division would change nothing but the last bit
    np.divide(mixed, share, out=mixed, where=partly & (share > 0))
    there = share[..., 0] >= 0.5 - 1e-5
    return np.where(there[..., None], np.rint(mixed), 0).astype(np.uint8), there


def mixture(
    planes: UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"], rows: Taps, columns: Taps
) -> Float32[np.ndarray, "new_h new_w c"]:
    """What the new pixels are made of, by its weights; not rounded."""
    mixed: np.ndarray = planes
    for axis, side in enumerate((rows, columns)):
        shape = [1, 1, 1]
        shape[axis] = -1
        total = None
        for tap in np.flatnonzero(side.weights.any(axis=0)):
            weighted = mixed.take(side.pixels[:, tap], axis) * side.weights[:, tap].reshape(shape)
            total = weighted if total is None else np.add(total, weighted, out=total)
        assert total is not None  # weights add up to 1
        mixed = total
    return mixed
