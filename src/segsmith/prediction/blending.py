"""Overlapping chips, row by row -> their weighted mean, in strips of finished rows; memory of one row of chips.

Weights fall off towards the edges of a chip, so that none shows; they add up to 1 in every pixel, whatever the overlap.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from segsmith.data.resample import mixture, taps
from segsmith.data.windows import Window, starts
from segsmith.prediction.chip_rows import SLAB, move_up
from segsmith.types import HW

LEAST = 1e-6
"""Weight at the edge of a chip beside about 1 in its middle: it counts only where no chip reaches further, as along
the border of the image."""
MARGIN = 1 / 16
"""Share of its side, at each edge, in which a chip has LEAST weight: there the network sees zeros beyond the edge."""


class Strip(NamedTuple):
    """Finished rows of an image, from `top`."""

    top: int
    values: Float32[np.ndarray, "classes rows width"]


def taper(side: int, stride: int) -> Float[np.ndarray, " side"]:
    """Weights along a side of a chip: LEAST in a margin at both ends, of at most a quarter of what chips overlap by,
    and a Hann window between them."""
    margin = min(int(side * MARGIN), (side - stride) // 4)
    inner = side - 2 * margin
    hann = np.sin(np.pi * (np.arange(inner) + 0.5) / inner) ** 2
    return np.pad(np.maximum(hann, LEAST), margin, constant_values=LEAST)


def shares(length: int, side: int, stride: int) -> Float32[np.ndarray, "chips side"]:
    """The share of each chip along a side of the image in each of its pixels; those of one pixel add up to 1."""
    weights, first = taper(side, stride), starts(length, side, stride)
    total = np.zeros(first[-1] + side)
    for start in first:
        total[start : start + side] += weights
    return np.stack([weights / total[start : start + side] for start in first]).astype(np.float32)


class Blend:
    """The weighted mean of chips that cover an image of `hw` pixels as `windows.cover` says, or of all of them from
    `first_row` on.

        for windows, chips in ...:          # in the order of `cover`
            blend.add(windows, network(chips))
            for strip in blend.pop_finished(rows):
                ...

    A window that is never added leaves its share at 0. Memory is `classes` x chip height x image width x 4 bytes.
    """

    def __init__(self, hw: HW, chip_hw: HW, stride_hw: HW, classes: int, first_row: int = 0):
        self.hw, self.stride_hw, self.top = hw, stride_hw, first_row
        self._down = shares(hw[0], chip_hw[0], stride_hw[0])
        self._across = shares(hw[1], chip_hw[1], stride_hw[1])
        self._rows = np.zeros((classes, chip_hw[0], hw[1]), np.float32)

    def add(
        self, windows: Sequence[Window], values: Float32[np.ndarray, "windows classes chip_height chip_width"]
    ) -> None:
        """Add what a network said of some windows. Rows that were popped, and what lies beyond the image, are left
        out."""
        for window, of_chip in zip(windows, values, strict=True):
            if window.top + window.height <= self.top:
                continue
            down = self._down[window.top // self.stride_hw[0]]
            across = self._across[window.left // self.stride_hw[1]]
            there = window.inside(self.hw)
            first = max(self.top, window.top)
            kept = slice(first - window.top, there.height)
            seen = of_chip[:, kept, : there.width]
            into = self._rows[:, first - self.top : there.top + there.height - self.top, there.columns]
            into += seen * down[kept, None] * across[: there.width]

    def pop_finished(self, rows: int) -> Iterator[Strip]:
        """The mean in all rows above `rows` that were not popped before, a few at a time; no window that reaches into
        them may be added any more."""
        done = max(0, rows - self.top)
        for first in range(0, done, SLAB):
            yield Strip(self.top + first, self._rows[:, first : min(done, first + SLAB)].copy())
        move_up(self._rows.swapaxes(0, 1), done)
        self.top += done


class WayBack:
    """Strips of probabilities on the networks' grid -> the same on the image's own grid, row by row.

    The way back of what brought the image to the networks' grid: linear where it grows, the mean where it shrinks.
    """

    def __init__(self, seen_hw: HW, hw: HW, first_row: int = 0):
        """`first_row` is the first row of the image that is wanted."""
        self.seen_hw, self.hw, self.row = seen_hw, hw, first_row
        needed = taps(seen_hw[0], hw[0], 0, hw[0]).pixels
        self._first_needed, self._last_needed = needed.min(axis=1), needed.max(axis=1)
        self._columns = taps(seen_hw[1], hw[1], 0, hw[1])
        self._held: list[Strip] = []

    def ready(self, rows: int) -> int:
        """How many rows of the image can be told once so many of the networks' grid are finished."""
        return int(np.searchsorted(self._last_needed, rows))

    def needs(self, row: int) -> int:
        """The first row of the networks' grid that rows of the image from `row` on are made of."""
        return int(self._first_needed[row]) if row < self.hw[0] else self.seen_hw[0]

    def add(self, strip: Strip) -> Iterator[Float32[np.ndarray, "classes rows width"]]:
        """The rows of the image that can be told now, in order, a few at a time."""
        if self.seen_hw == self.hw:
            yield strip.values
            return
        self._held.append(strip)
        ready = self.ready(strip.top + strip.values.shape[1])
        while self.row < ready:
            count = min(SLAB, ready - self.row)
            rows = taps(self.seen_hw[0], self.hw[0], self.row, count)
            top = self._held[0].top
            seen = np.concatenate([held.values for held in self._held], axis=1).transpose(1, 2, 0)
            shifted = rows._replace(pixels=rows.pixels - top)
            yield mixture(seen, shifted, self._columns).transpose(2, 0, 1)
            self.row += count
            first = self.needs(self.row)
            self._held = [held for held in self._held if held.top + held.values.shape[1] > first]
