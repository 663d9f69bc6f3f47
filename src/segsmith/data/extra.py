"""Columns of numbers in the index, such as a depth -> levels 0..255 that become channels of one value each."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from segsmith.errors import DataError

Ranges = tuple[tuple[float, float], ...]
"""Smallest and largest value of each column."""


def extra_ranges(table: pd.DataFrame, columns: Sequence[str]) -> Ranges:
    """The range of each column over all images of an index. Raises DataError for one that is absent, holds no
    numbers, or no two different ones."""
    ranges = []
    for name in columns:
        if name not in table or not pd.api.types.is_numeric_dtype(table[name]):
            numbers = [column for column in table if pd.api.types.is_numeric_dtype(table[column])]
            known = ", ".join(map(str, numbers))
            raise DataError(f"data.extra: the index has no column of numbers '{name}'; it has {known}")
        low, high = float(table[name].min()), float(table[name].max())
        if not low < high:
            raise DataError(f"data.extra: column '{name}' tells no image from another (all are {low:g})")
        ranges.append((low, high))
    return tuple(ranges)


def extra_levels(table: pd.DataFrame, columns: Sequence[str], ranges: Ranges) -> UInt8[np.ndarray, "rows extra"]:
    """The columns as levels, 0 at the low end of each range and 255 at the high one; beyond it they are clipped.

    A missing value becomes the middle of the range. Raises DataError for a column that is absent.
    """
    if missing := [name for name in columns if name not in table]:
        known = ", ".join(map(str, table))
        raise DataError(f"no column '{missing[0]}', which the model was trained with; there are {known}")
    levels = np.empty((len(table), len(columns)), np.uint8)
    for number, (name, (low, high)) in enumerate(zip(columns, ranges, strict=True)):
        values = pd.to_numeric(table[name], errors="coerce").fillna((low + high) / 2).to_numpy(np.float64)
        levels[:, number] = np.rint(255 * np.clip((values - low) / (high - low), 0, 1))
    return levels
