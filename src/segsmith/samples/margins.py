"""Image -> larger image whose margins go on smoothly from it: the biharmonic continuation of each band.

The margin is the surface of least bending energy, the sum of squared second differences, that the image as it stands
allows (a thin plate, whose equation is the biharmonic one; as Damelin & Hoang 2018 inpaint). So a plane goes on as a
plane. The system of equations depends on the sizes alone and is factorised once for each.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, UInt8

from segsmith.types import HW

Margins = tuple[tuple[int, int], tuple[int, int]]
"""Pixels above and below, left and right."""
TENSION = 1e-4
"""Of the plate, beside a stiffness of 1: so little that it only tells how an image of one row goes on, namely flat."""
KEPT_SIZES = 4
"""Sizes whose factors are kept: some 100 MB for each at 256 pixels."""


def continued(pixels: UInt8[np.ndarray, "h w bands"], margins: Margins) -> UInt8[np.ndarray, "padded_h padded_w bands"]:
    """The pixels, untouched, within margins that continue them; rounded and clipped to 0..255."""
    if not any(map(any, margins)):
        return pixels
    padded = np.pad(pixels, (*margins, (0, 0)))
    outside, solve = _solver(pixels.shape[:2], margins)
    values = solve(padded.reshape(-1, pixels.shape[2]).astype(np.float64))
    padded[outside] = np.clip(np.rint(values), 0, 255)
    return padded


@lru_cache(KEPT_SIZES)
def _solver(
    hw: HW, margins: Margins
) -> tuple[
    Bool[np.ndarray, "padded_h padded_w"],
    Callable[[Float[np.ndarray, "pixels bands"]], Float[np.ndarray, "unknown bands"]],
]:
    """Where the margin is, and what gives its values from those of all pixels, of which it reads the known ones."""
    from scipy import sparse  # here, since few recipes need it
    from scipy.sparse.linalg import splu

    outside = np.pad(np.zeros(hw, bool), margins, constant_values=True)
    height, width = outside.shape
    rows, columns = (_differences(side) for side in outside.shape)
    across, along = sparse.eye_array(width), sparse.eye_array(height)
    bending = sparse.vstack(
        [
            sparse.kron(rows[1], across),
            sparse.kron(along, columns[1]),
            np.sqrt(2) * sparse.kron(rows[0], columns[0]),
            TENSION * sparse.kron(rows[0], across),
            TENSION * sparse.kron(along, columns[0]),
        ]
    ).tocsr()
    energy = (bending.T @ bending).tocsc()
    unknown = outside.ravel()
    factors = splu(energy[unknown][:, unknown], permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    reads = energy[unknown][:, ~unknown].tocsr()
    return outside, lambda pixels: factors.solve(-(reads @ pixels[~unknown]))


def _differences(side: int) -> tuple["object", "object"]:
    """First and second differences along a side, as sparse matrices; none reaches beyond it."""
    from scipy import sparse

    first = sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(max(0, side - 1), side))
    second = sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(max(0, side - 2), side))
    return first, second
