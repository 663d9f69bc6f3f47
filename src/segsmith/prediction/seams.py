"""Strips of levels -> how much steeper they are where chips begin and end than elsewhere."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8

from segsmith.prediction.chip_rows import SLAB, ChipRows
from segsmith.types import HW


class SeamMeter:
    """The mean squared difference of neighbouring pixels across the lines on which chips begin and end, relative to
    that of all others: 1 where no seam is to be seen."""

    def __init__(self, rows: ChipRows, hw: HW):
        """`hw` is the size of the image whose levels are measured, in which the lines lie."""
        self._down, self._across = (_lines(rows, hw, axis) for axis in (0, 1))
        self._energy = np.zeros((2, 2))  # of differences down and across; of others, and on lines
        self._count = np.zeros((2, 2), np.int64)
        self._above: tuple[np.ndarray, np.ndarray] | None = None

    def add(
        self, top: int, levels: UInt8[np.ndarray, "classes rows width"], valid: Bool[np.ndarray, "rows width"]
    ) -> None:
        """The next rows, from `top`. Differences with pixels that are not valid do not count."""
        for first in range(0, levels.shape[1], SLAB):
            part, usable = levels[:, first : first + SLAB], valid[first : first + SLAB]
            across = np.diff(part.astype(np.int16), axis=2).astype(np.int32) ** 2
            both = usable[:, 1:] & usable[:, :-1]
            self._note(1, (across * both).sum(axis=(0, 1)), both.sum(axis=0), self._across[1:])
            if self._above is not None:
                part = np.concatenate([self._above[0], part], axis=1)
                usable = np.concatenate([self._above[1], usable])
            down = np.diff(part.astype(np.int16), axis=1).astype(np.int32) ** 2
            both = usable[1:] & usable[:-1]
            begin = top + first + (self._above is None)
            lines = self._down[begin : begin + len(both)]
            self._note(0, (down * both).sum(axis=(0, 2)), both.sum(axis=1), lines)
            self._above = part[:, -1:].copy(), usable[-1:].copy()

    def ratio(self) -> float | None:
        """1 for no seams, more for steeper lines; None where no line lies between valid pixels, or all is flat
        elsewhere."""
        energy, count = self._energy.sum(axis=0), self._count.sum(axis=0)
        if not count.all() or not energy[0]:
            return None
        return float(energy[1] / count[1] / (energy[0] / count[0]))

    def _note(
        self,
        axis: int,
        energy: Int[np.ndarray, " places"],
        count: Int[np.ndarray, " places"],
        lines: Bool[np.ndarray, " places"],
    ) -> None:
        for on_line in (False, True):
            self._energy[axis, int(on_line)] += energy[lines == on_line].sum()
            self._count[axis, int(on_line)] += count[lines == on_line].sum()


def _lines(rows: ChipRows, hw: HW, axis: int) -> Bool[np.ndarray, " places"]:
    """Whether a chip begins or ends between each pixel along a side and the one before."""
    seen, side, stride = rows.hw[axis], rows.chip_hw[axis], rows.stride_hw[axis]
    begin: Sequence[int] = range(0, seen, stride)
    there = np.zeros(hw[axis], bool)
    for line in {*begin, *(start + side for start in begin)}:
        place = round(line * hw[axis] / seen)
        if 0 < line < seen and 0 < place < hw[axis]:
            there[place] = True
    return there
