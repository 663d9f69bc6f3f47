"""One image of any size on its way through the networks: chips -> probabilities -> blended -> strips of levels."""

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from mmap import mmap
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from segsmith.ahead import ahead
from segsmith.losses.objective import quantised
from segsmith.prediction.blending import Blend, WayBack
from segsmith.prediction.chip_rows import SLAB, ChipRows, Read
from segsmith.prediction.first_look import Worth, worthwhile
from segsmith.recipe import Recipe
from segsmith.types import HW

OfChips = Callable[
    [UInt8[np.ndarray, "chips input_height input_width bands"], UInt8[np.ndarray, " extra"]],
    Float32[np.ndarray, "chips classes input_height input_width"],
]
"""Probabilities 0..1 of chips of one image; beside them the levels of its further channels."""


class LevelStrip(NamedTuple):
    """Rows of an image from `top`, at its own size: all that one row of chips finished."""

    number: int
    top: int
    levels: UInt8[np.ndarray, "classes _rows _width"]
    chips: int
    """How many chips of its row of chips were computed."""
    blank: int
    """How many were left out, since they hold no valid pixel."""
    skipped: int = 0
    """How many were left out, since a first look ruled them out."""


class ValueStrip(NamedTuple):
    """A LevelStrip, as probabilities 0..1."""

    number: int
    top: int
    values: Float32[np.ndarray, "classes _rows _width"]
    chips: int
    blank: int
    skipped: int = 0

    def levelled(self) -> LevelStrip:
        levels = np.empty(self.values.shape, np.uint8)
        for first in range(0, self.values.shape[1], SLAB):
            rows = slice(first, first + SLAB)
            levels[:, rows] = quantised(self.values[:, rows])
        return LevelStrip(self.number, self.top, levels, self.chips, self.blank, self.skipped)


class Sweep:
    """An image of `hw` pixels that the networks see as one of `seen_hw`, swept by chips as the recipe says.

    The strips are a function of the sizes alone, and each of what the image holds, wherever a sweep begins. Memory is
    that of a row of chips, in which a pixel takes `bands` + 1 + 4 x `classes` bytes, and of a few batches.
    """

    def __init__(self, recipe: Recipe, classes: int, seen_hw: HW, hw: HW):
        self.recipe, self.classes, self.seen_hw, self.hw = recipe, classes, seen_hw, hw
        chip_hw = recipe.data.input_hw
        self.rows = ChipRows(seen_hw, chip_hw, recipe.predict.stride_hw(chip_hw))

    @cached_property
    def edges(self) -> list[int]:
        """The first row of each strip in the image, and the image's height; some strips may be without rows."""
        back = WayBack(self.seen_hw, self.hw)
        return [back.ready(self.rows.finished(number)) for number in range(len(self.rows.tops) + 1)]

    def values(
        self,
        read: Read,
        of_chips: OfChips,
        extra: UInt8[np.ndarray, " extra"],
        first: int = 0,
        worth: Worth | None = None,
    ) -> Iterator[ValueStrip]:
        """The strips from number `first` on, in order. `read` is called in another thread, ahead of `of_chips`. Chips
        that `worth` denies are left out as those without a valid pixel are: they add 0 to the mean with those that
        overlap them."""
        back = WayBack(self.seen_hw, self.hw, self.edges[first])
        blend = Blend(self.seen_hw, self.rows.chip_hw, self.rows.stride_hw, self.classes, back.needs(self.edges[first]))
        number, chips = self.rows.row_of(blend.top), 0
        values, filled = self._strip(number, first), 0
        batch_size = self.recipe.predict.batch_size
        batches = ahead(self.rows.batches(read, batch_size, blend.top))
        if worth is not None:
            batches = worthwhile(batches, lambda pixels: worth(pixels, extra), batch_size)
        for batch in batches:
            if batch.windows:
                blend.add(batch.windows, of_chips(batch.pixels, extra))
            for strip in blend.pop_finished(batch.rows):
                for rows in back.add(strip):
                    values[:, filled : filled + rows.shape[1]] = rows
                    filled += rows.shape[1]
            chips += len(batch.windows)
            if batch.last:
                if number >= first:
                    yield ValueStrip(number, self.edges[number], values, chips, batch.blank, batch.skipped)
                del values  # before the next are taken
                number, chips = number + 1, 0
                values, filled = self._strip(number, first), 0

    def _strip(self, number: int, first: int) -> Float32[np.ndarray, "classes _rows _width"]:
        """Room for the rows of a strip; for none before the first, and behind the last."""
        rows = self.edges[number + 1] - self.edges[number] if first <= number < len(self.rows.tops) else 0
        shape = self.classes, rows, self.hw[1]
        if not rows:
            return np.empty(shape, np.float32)
        # in pages of its own, which go back to the system with it: in the heap, so large an array leaves holes
        return np.frombuffer(mmap(-1, 4 * math.prod(shape)), np.float32).reshape(shape)
