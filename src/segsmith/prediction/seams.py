"""Strips of levels -> how much steeper they are where chips begin and end than elsewhere."""

from math import gcd

import numpy as np
from jaxtyping import Bool, Int, UInt8

from segsmith.data.windows import starts
from segsmith.prediction.chip_rows import SLAB, ChipRows
from segsmith.types import HW

HALVINGS = 32
"""What a usual network halves an image by, in all."""


class SeamMeter:
    """The mean squared difference of neighbouring pixels across the lines on which chips begin and end, relative to
    that across others: 1 where no seam is to be seen."""

    def __init__(self, rows: ChipRows, hw: HW):
        """`hw` is the size of the image whose levels are measured, in which the lines lie."""
        self._down, self._across = (_kinds(rows, hw, axis) for axis in (0, 1))
        self._energy, self._count = np.zeros(2), np.zeros(2, np.int64)  # elsewhere, and on lines
        self._above: tuple[np.ndarray, np.ndarray] | None = None

    def add(
        self, top: int, levels: UInt8[np.ndarray, "classes rows width"], valid: Bool[np.ndarray, "rows width"]
    ) -> None:
        """The next rows, from `top`. Differences with pixels that are not valid do not count."""
        for first in range(0, levels.shape[1], SLAB):
            part, usable = levels[:, first : first + SLAB], valid[first : first + SLAB]
            across = np.diff(part.astype(np.int16), axis=2).astype(np.int32) ** 2
            both = usable[:, 1:] & usable[:, :-1]
            self._note((across * both).sum(axis=(0, 1)), both.sum(axis=0), self._across[1:])
            if self._above is not None:
                part = np.concatenate([self._above[0], part], axis=1)
                usable = np.concatenate([self._above[1], usable])
            down = np.diff(part.astype(np.int16), axis=1).astype(np.int32) ** 2
            both = usable[1:] & usable[:-1]
            begin = top + first + (self._above is None)
            kinds = self._down[begin : begin + len(both)]
            self._note((down * both).sum(axis=(0, 2)), both.sum(axis=1), kinds)
            self._above = part[:, -1:].copy(), usable[-1:].copy()

    def ratio(self) -> float | None:
        """1 for no seams, more for steeper lines; None where no line lies between valid pixels, or all is flat
        elsewhere."""
        if not self._count.all() or not self._energy[0]:
            return None
        elsewhere, on_lines = self._energy / self._count
        return float(on_lines / elsewhere)

    def _note(
        self,
        energy: Int[np.ndarray, " places"],
        count: Int[np.ndarray, " places"],
        kind: Int[np.ndarray, " places"],
    ) -> None:
        for number in (0, 1):
            self._energy[number] += energy[kind == number].sum()
            self._count[number] += count[kind == number].sum()


def _kinds(rows: ChipRows, hw: HW, axis: int) -> Int[np.ndarray, " places"]:
    """Of each pixel along a side, and the one before it: 1 where a chip begins or ends between them, 0 where they are
    compared with those, -1 else.

    Compared are places alike: between two pixels of the networks' grid, since levels on a finer one are interpolated
    and flatter, and multiples of HALVINGS, as far as chips lie on them, since a network that halves an image makes
    steps there of itself.
    """
    seen, side, stride = rows.hw[axis], rows.chip_hw[axis], rows.stride_hw[axis]
    step = gcd(side, stride, HALVINGS)
    step = max(1, step // 2) if step == stride else step
    lines = np.arange(step, seen, step)
    begin = np.array(starts(seen, side, stride))
    on_chip = np.isin(lines, [begin, begin + side])
    places = np.rint(lines * (hw[axis] / seen)).astype(np.int64)
    kinds = np.full(hw[axis] + 1, -1, np.int8)
    kinds[places[~on_chip]] = 0
    kinds[places[on_chip]] = 1
    kinds[0] = -1
    return kinds[:-1]
