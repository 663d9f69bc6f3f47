"""Image size, chip size, stride -> windows that cover it exactly; training and prediction share them."""

from collections.abc import Iterator
from typing import NamedTuple

from segsmith.types import HW

PANEL = 4096
"""Columns that are read at a time: a file of square blocks then decodes no block twice for the same rows."""


class Window(NamedTuple):
    """A pixel rectangle. It may reach beyond the image, where there is nothing valid."""

    top: int
    left: int
    height: int
    width: int

    @property
    def hw(self) -> HW:
        return self.height, self.width

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)

    def inside(self, hw: HW) -> "Window":
        """The part of the window that lies in an image of `hw` pixels; without height or width if there is none."""
        top, left = min(max(self.top, 0), hw[0]), min(max(self.left, 0), hw[1])
        bottom, right = max(top, min(self.top + self.height, hw[0])), max(left, min(self.left + self.width, hw[1]))
        return Window(top, left, bottom - top, right - left)


def whole(hw: HW) -> Window:
    """The window that is the image."""
    return Window(0, 0, *hw)


def panels(window: Window) -> Iterator[Window]:
    """A window in parts beside one another, of at most PANEL columns."""
    for left in range(0, window.width, PANEL):
        yield window._replace(left=window.left + left, width=min(PANEL, window.width - left))


def scaled_hw(hw: HW, scale: float) -> HW:
    """The size of an image when each of its pixels becomes `scale` pixels a side; one pixel at least."""
    return max(1, round(hw[0] * scale)), max(1, round(hw[1] * scale))


def starts(length: int, chip: int, stride: int) -> range:
    """Where chips begin along one side, from 0 in steps of `stride`: as few as leave no pixel uncovered.

    Raises ValueError for a stride longer than the chip, which would leave gaps.
    """
    if not 0 < stride <= chip:
        raise ValueError(f"a stride must be 1 to the chip's {chip} pixels. Received: {stride}")
    return range(0, max(1, -(-(length - chip) // stride) * stride + 1), stride)


def cover(hw: HW, chip_hw: HW, stride_hw: HW) -> Iterator[Window]:
    """Windows of `chip_hw` that cover an image of `hw` pixels, row by row; the last of a row or column may reach
    beyond it."""
    for top in starts(hw[0], chip_hw[0], stride_hw[0]):
        for left in starts(hw[1], chip_hw[1], stride_hw[1]):
            yield Window(top, left, *chip_hw)
