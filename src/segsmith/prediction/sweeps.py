"""Sweeps of one image by several networks, or at several scales -> one, in the strips of the first of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from segsmith.prediction.average import Average
from segsmith.prediction.chip_rows import ChipRows, Read
from segsmith.prediction.first_look import Worth
from segsmith.prediction.sweep import OfChips, Sweep, ValueStrip
from segsmith.recipe import Averaging


@dataclass(frozen=True)
class Swept:
    """One sweep, and what it goes over. Its strips are the same wherever it begins."""

    sweep: Sweep
    read: Read
    of_chips: OfChips
    extra: UInt8[np.ndarray, " extra"]
    worth: Worth | None = None

    @property
    def edges(self) -> list[int]:
        """The first row of each strip in the image, and the image's height."""
        return self.sweep.edges

    @property
    def rows(self) -> ChipRows:
        """Where chips lie, on the grid of the network."""
        return self.sweep.rows

    def values(self, first: int = 0) -> Iterator[ValueStrip]:
        """The strips from number `first` on, in order."""
        return self.sweep.values(self.read, self.of_chips, self.extra, first, self.worth)


@dataclass(frozen=True)
class AveragedSweeps:
    """The average of several, likewise; its strips, and how many chips are told of each, are those of the first.

    Memory is that of all of them, and of a strip.
    """

    sweeps: Sequence["Swept | AveragedSweeps"]
    weights: Sequence[float]
    how: Averaging
    exclusive: int

    @property
    def edges(self) -> list[int]:
        return self.sweeps[0].edges

    @property
    def rows(self) -> ChipRows:
        return self.sweeps[0].rows

    def values(self, first: int = 0) -> Iterator[ValueStrip]:
        if len(self.sweeps) == 1:
            yield from self.sweeps[0].values(first)  # as it is, without copies
            return
        others = [_Rows(sweep, self.edges[first]) for sweep in self.sweeps[1:]]
        for strip in self.sweeps[0].values(first):
            each = [strip.values, *(rows.take(strip.values.shape[1]) for rows in others)]
            average = Average(self.how, exclusive=self.exclusive)
            for values, weight in zip(each, self.weights, strict=True):
                average.add(torch.from_numpy(values), weight)
            yield strip._replace(values=average.result().numpy())


class _Rows:
    """The rows of a sweep from `top` on, so many at a time as are asked for."""

    def __init__(self, sweep: Swept | AveragedSweeps, top: int):
        first = max(number for number, edge in enumerate(sweep.edges[:-1]) if edge <= top)
        self._strips = sweep.values(first)
        self._held = next(self._strips).values[:, top - sweep.edges[first] :]

    def take(self, count: int) -> Float32[np.ndarray, "classes _count _width"]:
        while self._held.shape[1] < count:
            self._held = np.concatenate([self._held, next(self._strips).values], axis=1)
        taken, self._held = self._held[:, :count], self._held[:, count:]
        return taken
