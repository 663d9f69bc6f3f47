"""An image of any size, read a few rows at a time and each once -> chips in batches, row of chips by row of chips."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8

from segsmith.data.windows import Window, panels, starts
from segsmith.types import HW, ClassMask, Image

SLAB = 32
"""Rows that are worked on at a time, so that no copy is as large as a row of chips."""

Read = Callable[[Window], tuple[Image, ClassMask]]
"""Pixels of a window that lies in the image as the networks see it, and which are valid."""


class ChipBatch(NamedTuple):
    """Windows beside one another, and their pixels; 0 where they reach beyond the image."""

    windows: list[Window]
    pixels: UInt8[np.ndarray, "_windows _chip_height _chip_width _bands"]
    rows: int
    """No batch behind this one reaches into the rows of the image above."""
    blank: int = 0
    """Windows without a valid pixel that are left out of this row of chips."""
    last: bool = False
    """Whether it ends a row of chips."""
    skipped: int = 0
    """Windows that a first look ruled out of this row of chips."""


@dataclass(frozen=True)
class ChipRows:
    """Windows of `chip_hw`, `stride_hw` apart, over an image of `hw` pixels, as `windows.cover` says."""

    hw: HW
    chip_hw: HW
    stride_hw: HW

    @property
    def tops(self) -> range:
        """The first row of each row of chips."""
        return starts(self.hw[0], self.chip_hw[0], self.stride_hw[0])

    def finished(self, number: int) -> int:
        """How many rows of the image no chip reaches into but those of the first `number` rows of chips."""
        return self.tops[number] if number < len(self.tops) else self.hw[0]

    def row_of(self, row: int) -> int:
        """The number of the first row of chips that reaches into a row of the image, or beyond it."""
        return next(n for n, top in enumerate(self.tops) if top + self.chip_hw[0] > row)

    def batches(self, read: Read, batch_size: int, first_row: int = 0) -> Iterator[ChipBatch]:
        """Those that reach into the rows from `first_row` on, without those that hold no valid pixel.

        A batch never spans two rows of chips, so that it does not depend on where one begins; there is one for each
        row, if without windows. Memory is that of a row of chips.
        """
        height, width = self.chip_hw
        pixels = np.zeros((height, self.hw[1], 0), np.uint8)
        valid = np.zeros((height, self.hw[1]), bool)
        top = bottom = 0  # the rows that are held
        for number, first in enumerate(self.tops):
            if first + height <= first_row:
                continue
            kept = max(0, bottom - first)
            move_up(pixels, first - top if kept else height)
            move_up(valid, first - top if kept else height)
            top, begin, bottom = first, first + kept, min(first + height, self.hw[0])
            for panel in panels(Window(begin, 0, bottom - begin, self.hw[1])):
                image, usable = read(panel)
                if pixels.shape[2] != image.shape[2]:
                    pixels = np.zeros((*valid.shape, image.shape[2]), np.uint8)
                pixels[begin - top : bottom - top, panel.columns] = image
                valid[begin - top : bottom - top, panel.columns] = usable
            usable_columns = np.asarray(valid.any(axis=0))
            every = [Window(first, left, height, width) for left in starts(self.hw[1], width, self.stride_hw[1])]
            windows = [window for window in every if usable_columns[window.columns].any()]
            for begin in range(0, max(1, len(windows)), batch_size):
                some = windows[begin : begin + batch_size]
                chips = np.zeros((len(some), height, width, pixels.shape[2]), np.uint8)
                for chip, window in zip(chips, some, strict=True):
                    inside = pixels[:, window.columns]
                    chip[:, : inside.shape[1]] = inside
                if begin + batch_size < len(windows):
                    yield ChipBatch(some, chips, first)
                else:
                    yield ChipBatch(some, chips, self.finished(number + 1), len(every) - len(windows), last=True)


def move_up(rows: Shaped[np.ndarray, "rows ..."], by: int) -> None:
    """Move the rows of an array up in place, and fill what falls free with 0; a few at a time, without a copy."""
    left = len(rows) - by
    for first in range(0, left, SLAB):
        rows[first : min(left, first + SLAB)] = rows[first + by : min(left, first + SLAB) + by]
    rows[left:] = 0
