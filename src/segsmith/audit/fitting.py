"""Pictures of two images -> the symmetry of a square and the shift under which they lie best on one another.

What is compared are an image's details at three sizes: all eight symmetries at the smallest, which tells nearly all
images apart; the likeliest symmetries at the next; and the last pixels of the shift at the largest. Shifts are searched
by correlation in the Fourier domain, each value divided by the energy of the two overlapping parts, so that it is a
correlation coefficient (J. P. Lewis, "Fast normalized cross-correlation", 1995).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Complex64, Float32, Int, Int8, Shaped

from segsmith.data.dataset import Dataset
from segsmith.data.images import resized_image
from segsmith.types import HW, Image

SYMMETRIES = (
    "as it is",
    "rotated by 90",
    "rotated by 180",
    "rotated by 270",
    "flipped left to right",
    "flipped left to right, then rotated by 90",
    "flipped top to bottom",
    "flipped left to right, then rotated by 270",
)
"""What is done to an image, by number; rotations are counter-clockwise, in degrees."""

TINY, COARSE, FINE = 32, 64, 128
"""Longest side, in pixels, of the details that symmetries are told by, that are described and searched, and that are
compared."""

FLAT = 0.15
"""Least deviation of an image's details, of 1 for strong contrast, by which it can be recognised."""

_INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)
_TRIED = 3
"""Symmetries, of the eight, that are searched closely."""
_LEAST_OVERLAP = 0.3
_TINY_LEVELS = 32
"""Steps by which tiny details are stored, per unit."""

Plane = Float32[np.ndarray, "_plane_height _plane_width"]
Tiny = Int8[np.ndarray, "_tiny_height _tiny_width"]
Look = Callable[[int, int], Plane]
"""Image number, size -> its details."""


class Fit(NamedTuple):
    """How two images lie best on one another: what `second` shows at (y, x) after `symmetry` was done to it, `first`
    shows at (y + shift_yx[0], x + shift_yx[1])."""

    symmetry: int
    shift_yx: tuple[int, int]
    """Pixels of `first`, down and right."""
    similarity: float
    """Correlation of the details where both overlap, -1 to 1, times the root of the share of the smaller image that
    does: the less there is to agree, the more it must agree."""


def details(image: Image, side: float, size: int) -> Plane:
    """What can be recognised of an image, at a scale that brings its longest side to about `size`.

    Images whose longest side is within a quarter of `side` are scaled alike. Medium frequencies, divided by their local
    strength: neither brightness, contrast nor compression matters much, and a bright streak counts no more than a faint
    one. What is constant along rows or columns is taken out, as streaks and layers fit upon one another wherever they
    are.
    """
    longest = max(image.shape[:2])
    scale = size / (side if abs(longest / side - 1) <= 0.25 else longest)
    hw = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    plane = resized_image(image, hw).mean(axis=2, dtype=np.float32)
    blur, wide = (0.7, 6.0) if size == COARSE else (1.0, 8.0)
    band = cv2.GaussianBlur(plane, (0, 0), blur) - cv2.GaussianBlur(plane, (0, 0), wide)
    found = band / np.sqrt(cv2.GaussianBlur(band * band, (0, 0), wide) + 9.0)  # 3 grey levels: no more than noise
    np.clip(found, -3, 3, out=found)
    found += found.mean() - found.mean(axis=0, keepdims=True) - found.mean(axis=1, keepdims=True)
    return np.asarray(found, np.float32)


def tiny_details(coarse: Plane) -> Tiny:
    """Coarse details at half their size, in few bits: 1 kB."""
    shape = [max(1, round(length * TINY / COARSE)) for length in coarse.shape]
    small = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(np.rint(_TINY_LEVELS * small), -127, 127), np.int8)


def looker(dataset: Dataset, side: float) -> Look:
    """Details of the dataset's images at COARSE and FINE; the last 512 are kept, 64 kB or less each. Raises DataError
    when an image cannot be read."""

    @lru_cache(512)
    def look(index: int, size: int) -> Plane:
        return details(dataset.image(index), side, size)

    return look


def promises(first: Tiny, others: Sequence[Tiny]) -> Float32[np.ndarray, "others 8"]:
    """How well each of the others fits on the first under each symmetry, at its best shift: the similarity of a Fit,
    of tiny details; 0 where no shift fits."""
    found = np.zeros((len(others), 8), np.float32)
    # The other under a symmetry on the first is the first under its inverse on the other: those are made once.
    turned = [symmetric(_plane(first), inverse) for inverse in _INVERSE]
    of_one_shape = [range(8)] if first.shape[0] == first.shape[1] else [range(0, 8, 2), range(1, 8, 2)]
    for numbers in of_one_shape:
        planes = np.stack([turned[symmetry] for symmetry in numbers])
        ready: dict[HW, _Ready] = {}
        for row, other in enumerate(others):
            shifts = _shifts(planes.shape[1:], other.shape)
            if other.shape not in ready:
                ready[other.shape] = _ready(planes, shifts, moved=False)
            fits = _fits(ready[other.shape], _ready(_plane(other)[None], shifts, moved=True), shifts)
            found[row, numbers] = fits.max(axis=(1, 2))
    return found


def register(look: Look, first: int, second: int, promise: Float32[np.ndarray, " 8"], least: float = 0.2) -> Fit | None:
    """The symmetry and shift under which two images agree best; None if no overlap of three tenths fits by `least`.

    `promise` says how well each symmetry fits tiny details; the three best are searched. The shift is in pixels of the
    fine details, good to one pixel.
    """
    coarse = look(first, COARSE)
    likely = np.argsort(-promise, kind="stable")[:_TRIED].tolist()
    found = [(*_best_shift(coarse, symmetric(look(second, COARSE), symmetry)), symmetry) for symmetry in likely]
    fits, dy, dx, symmetry = max(found, key=lambda tried: tried[0])
    if fits < least:
        return None
    step = FINE // COARSE
    fine, turned = look(first, FINE), symmetric(look(second, FINE), symmetry)
    near = [(step * dy + y, step * dx + x) for y in range(-2, 3) for x in range(-2, 3)]
    similarity, shift = max((_agreement(fine, turned, shift), shift) for shift in near)
    return Fit(symmetry, shift, similarity)


def symmetric(pixels: Shaped[np.ndarray, "..."], symmetry: int) -> Shaped[np.ndarray, "..."]:
    """An array with rows and columns first, after one of SYMMETRIES."""
    flipped = pixels[:, ::-1] if symmetry >= 4 else pixels
    return np.ascontiguousarray(np.rot90(flipped, symmetry % 4))


def overlap(first_hw: HW, second_hw: HW, shift_yx: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The rectangle both images cover, in the first and in the second, when the second is moved by `shift_yx`."""
    tops = [max(0, shift) for shift in shift_yx]
    ends = [max(top, min(a, b + s)) for top, a, b, s in zip(tops, first_hw, second_hw, shift_yx, strict=True)]
    here = slice(tops[0], ends[0]), slice(tops[1], ends[1])
    there = slice(tops[0] - shift_yx[0], ends[0] - shift_yx[0]), slice(tops[1] - shift_yx[1], ends[1] - shift_yx[1])
    return here, there


class _Shifts(NamedTuple):
    """All shifts of a second plane upon a first: rows and columns as the Fourier transform orders them."""

    dy: Int[np.ndarray, " shifts_y"]
    dx: Int[np.ndarray, " shifts_x"]
    first: "_Rectangle"
    """What both cover, in the first and in the second."""
    second: "_Rectangle"
    flat: Float32[np.ndarray, "shifts_y shifts_x"]
    """Energy of a flat picture of that size."""
    weight: Float32[np.ndarray, "shifts_y shifts_x"]
    """Root of the share of the smaller plane that overlaps; 0 where too little does. Small overlaps agree by chance
    more easily: the chance deviation goes with the root of the area."""


class _Rectangle(NamedTuple):
    """First row and column, and the ones after the last, at each shift."""

    top: Int[np.ndarray, " shifts_y"]
    end: Int[np.ndarray, " shifts_y"]
    left: Int[np.ndarray, " shifts_x"]
    right: Int[np.ndarray, " shifts_x"]


class _Ready(NamedTuple):
    """Planes of one shape, ready to be shifted."""

    spectrum: Complex64[np.ndarray, "planes shifts_y _half"]
    factor: Float32[np.ndarray, "planes shifts_y shifts_x"]
    """What the products at each shift are multiplied by, for the energy of the part that overlaps."""


@lru_cache(64)
def _shifts(first_hw: HW, second_hw: HW) -> _Shifts:
    sides = [7 * max(a, b) // 4 for a, b in zip(first_hw, second_hw, strict=True)]
    dy, dx = (np.fft.fftfreq(side, 1 / side).round().astype(int) for side in sides)
    top, left = np.maximum(dy, 0), np.maximum(dx, 0)
    end = np.maximum(np.minimum(first_hw[0], second_hw[0] + dy), top)
    right = np.maximum(np.minimum(first_hw[1], second_hw[1] + dx), left)
    area = np.outer(end - top, right - left)
    share = area / min(np.prod(first_hw), np.prod(second_hw))
    # beyond these the transform, which goes round, lays two ends of the planes on one another
    apart = [side - max(a, b) for side, a, b in zip(sides, first_hw, second_hw, strict=True)]
    allowed = (share >= _LEAST_OVERLAP) & np.outer(abs(dy) <= apart[0], abs(dx) <= apart[1])

    def within(hw: HW, y: Int[np.ndarray, " shifts_y"], x: Int[np.ndarray, " shifts_x"]) -> _Rectangle:
        rows = [np.clip(edge - y, 0, hw[0]) for edge in (top, end)]
        return _Rectangle(*rows, *(np.clip(edge - x, 0, hw[1]) for edge in (left, right)))

    return _Shifts(
        dy,
        dx,
        first=within(first_hw, 0 * dy, 0 * dx),
        second=within(second_hw, dy, dx),
        flat=(FLAT**2 / 2 * area + 1e-6).astype(np.float32),
        weight=np.where(allowed, np.sqrt(share), 0).astype(np.float32),
    )


def _ready(planes: Float32[np.ndarray, "planes _h _w"], shifts: _Shifts, *, moved: bool) -> _Ready:
    """Either the first planes, or the second, which are moved."""
    part = shifts.second if moved else shifts.first
    sums = np.zeros((len(planes), planes.shape[1] + 1, planes.shape[2] + 1))
    sums[:, 1:, 1:] = np.square(planes, dtype=np.float64).cumsum(axis=1).cumsum(axis=2)
    by_row = sums[:, part.end] - sums[:, part.top]
    energy = (by_row[:, :, part.right] - by_row[:, :, part.left]).astype(np.float32)
    factor = 1 / np.sqrt(np.maximum(energy, shifts.flat))
    spectrum = np.fft.rfft2(planes, (len(shifts.dy), len(shifts.dx)))
    return _Ready(np.conj(spectrum), factor) if moved else _Ready(spectrum, factor * shifts.weight)


def _fits(first: _Ready, second: _Ready, shifts: _Shifts) -> Float32[np.ndarray, "planes shifts_y shifts_x"]:
    """Similarity at every shift, of the planes of either with the one of the other."""
    together = np.fft.irfft2(first.spectrum * second.spectrum, (len(shifts.dy), len(shifts.dx)))
    together *= first.factor
    together *= second.factor
    return together


def _best_shift(first: Plane, second: Plane) -> tuple[float, int, int]:
    """The similarity at the shift (down, right) where the second plane fits best upon the first."""
    shifts = _shifts(first.shape, second.shape)
    (fits,) = _fits(_ready(first[None], shifts, moved=False), _ready(second[None], shifts, moved=True), shifts)
    y, x = np.unravel_index(int(fits.argmax()), fits.shape)
    return float(fits[y, x]), int(shifts.dy[y]), int(shifts.dx[x])


def _agreement(first: Plane, second: Plane, shift: tuple[int, int]) -> float:
    """Correlation, times the root of the share of the smaller plane that overlaps."""
    here, there = overlap(first.shape, second.shape, shift)
    a, b = first[here].ravel(), second[there].ravel()
    flat = FLAT**2 / 2 * a.size + 1e-6
    share = a.size / min(first.size, second.size)
    return float(a @ b / np.sqrt(max(float(a @ a), flat) * max(float(b @ b), flat)) * np.sqrt(share))


def _plane(tiny: Tiny) -> Plane:
    return tiny.astype(np.float32) / _TINY_LEVELS
