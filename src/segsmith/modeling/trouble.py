"""Losses that explode, memory that runs out -> an error that says what to do."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from segsmith import recipe
from segsmith.errors import ModelError

REMEMBERED = 100
"""Steps whose losses say what is usual."""
TIMES = 1000
"""How many times the usual loss is wild."""
IN_A_ROW = 10
"""Wild steps after which training has exploded: a few hard batches among easy ones pass."""


@dataclass
class LossHistory:
    """What the losses of a stage have been, to tell when they explode; plain values, which a checkpoint keeps."""

    first: float | None = None
    usual: list[float] = field(default_factory=list)
    wild: int = 0

    def exploded(self, loss: float) -> bool:
        """Take in the loss of a step; whether training cannot go on from here.

        It cannot where the loss is no finite number, nor where it has been over a thousand times the median of the
        last hundred usual ones, and over the stage's first, for ten steps in a row. Wild losses are not usual ones. The
        first is asked as well since at the end of a stage the median can be next to nothing.
        """
        if not math.isfinite(loss):
            return True
        if self.first is None:
            self.first = loss
        median = sorted(self.usual)[len(self.usual) // 2] if self.usual else loss
        if loss > TIMES * median and loss > self.first:
            self.wild += 1
        else:
            self.wild = 0
            self.usual = [*self.usual, loss][-REMEMBERED:]
        return self.wild >= IN_A_ROW


@contextmanager
def memory_told(options: recipe.Recipe, workers: int) -> Iterator[None]:
    """Turn running out of memory, on a GPU or not, into a ModelError that says what may be lowered, and from what."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        said = str(error)
        worker = "DataLoader worker" in said and "killed" in said
        told = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in said or worker
        if not told:
            raise
        train, (height, width) = options.train, options.data.input_hw
        passes = train.batch_size // train.accumulate
        larger = next((n for n in range(train.accumulate + 1, train.batch_size + 1) if train.batch_size % n == 0), None)
        split = f"set train.accumulate={larger} (the same steps in smaller passes), or " if larger else ""
        prepared = "train.workers" if worker else "data.input_hw, train.batch_size, predict.batch_size or train.workers"
        what = "a worker that prepares images was killed, most likely for want of memory" if worker else "out of memory"
        raise ModelError(
            f"{what}: train.batch_size={train.batch_size} with train.accumulate={train.accumulate} is passes of "
            f"{passes} images of {height} x {width} pixels, predict.batch_size={options.predict.batch_size}, "
            f"train.workers={workers}; {'' if worker else split}lower {prepared} ({said.splitlines()[0]})"
        ) from error
