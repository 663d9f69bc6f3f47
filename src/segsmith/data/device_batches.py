"""Untouched samples + what was drawn -> batches that are changed on the device.

Workers hand over what a sample is kept as (data/rows.py) and its description. Where there is room, rows stay on the
device as they come: from then on no pixel of them is read, copied or waited for. A sample that an object is pasted into
is made by its worker, since objects are found by OpenCV, and changed no more; all else is done here.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from segsmith.data.augment import Change
from segsmith.data.batch_changes import BatchChanges, Pixels
from segsmith.data.batches import Batch
from segsmith.data.cache import SampleCache
from segsmith.data.chips import Chips
from segsmith.data.mixing import Cutmix, Paste
from segsmith.data.rows import FACTS, Form
from segsmith.data.stage_samples import Position, StageSamples

MOST_OF_FREE = 0.6
"""Share of a device's free memory that samples may stay in: it is measured while a network trains, and what validation
takes, or another process, may be more."""
BEFORE_ROOM = 2
"""Batches that are trained on before free memory is measured."""


class Handed(NamedTuple):
    """One sample as a worker hands it over."""

    chip: int
    change: Change
    row: UInt8[np.ndarray, " bytes"] | None
    """None where it stays on the device already."""
    soft: UInt8[np.ndarray, "planes height width"] | None
    whole: tuple[bool, float] | None
    """Whether all its pixels are usable, and its scale; None where it stays on the device."""
    stays: bool
    """Whether its row is that of the chip, untouched, and all there is of it."""
