"""Probabilities of several networks, flips, scales or bundles -> one: their mean, geometric mean or median."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from segsmith.losses.objective import quantised
from segsmith.recipe import Averaging

FLOOR = 0.25 / 255
"""What no probability falls below, nor comes nearer to 1, in a geometric mean: a quarter of a level. One network that
is sure cannot outvote all others so, and what is written as 0 or 255 stays that."""


class Average:
    """Takes probabilities 0..1 of one shape, one after the other, and gives their weighted average.

    mean        the arithmetic mean
    geometric   the geometric mean of their odds (the logarithmic opinion pool, Genest and Zidek 1986), so that
                foreground and background count alike; of exclusive classes, of all and the background together
    median      the value in the middle, or the mean of the two there; whatever the weights. Of exclusive classes
                each by itself

    Memory is that of one of them; of all of them for the median. `exclusive` says how many of the first planes (the
    last but two dimensions) are classes which with the background sum to 1; the planes behind them stand by themselves.
    """

    def __init__(self, how: Averaging, *, exclusive: int = 0):
        self.how, self.exclusive = how, exclusive
        self._total: Tensor | None = None
        self._weights = 0.0
        self._each: list[Tensor] = []

    def add(self, probabilities: Tensor, weight: float | Tensor = 1.0) -> None:
        """Weights mean nothing to a median."""
        if self.how == "median":
            self._each.append(probabilities)
            return
        value = probabilities if self.how == "mean" else self._log_odds(probabilities)
        self._total = weight * value if self._total is None else self._total + weight * value
        self._weights = self._weights + weight  # type: ignore[assignment]

    def result(self) -> Tensor:
        """Raises ValueError before anything was added."""
        if self._each:
            ordered = torch.stack(self._each).sort(dim=0).values
            return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        if self._total is None:
            raise ValueError("nothing was added, and of nothing there is no average")
        mean = self._total / self._weights
        if self.how == "mean":
            return mean
        if not self.exclusive:
            return mean.sigmoid()
        classes, others = mean.tensor_split([self.exclusive], dim=-3)
        with_background = torch.cat([torch.zeros_like(classes.narrow(-3, 0, 1)), classes], dim=-3)
        return torch.cat([with_background.softmax(-3).narrow(-3, 1, self.exclusive), others.sigmoid()], dim=-3)

    def _log_odds(self, probabilities: Tensor) -> Tensor:
        """Against the background: of one class, or of each of several that exclude each other."""
        known = probabilities.clamp(FLOOR, 1 - FLOOR)
        if not self.exclusive:
            return known.logit()
        classes, others = known.tensor_split([self.exclusive], dim=-3)
        summed = probabilities.narrow(-3, 0, self.exclusive).sum(-3, keepdim=True)
        background = (1 - summed).clamp(FLOOR, 1 - FLOOR)
        return torch.cat([classes.log() - background.log(), others.logit()], dim=-3)


def averaged_levels(
    each: Sequence[UInt8[np.ndarray, "..."]], weights: Sequence[float], how: Averaging, *, exclusive: int = 0
) -> UInt8[np.ndarray, "..."]:
    """The same of levels 0..255 of one shape, as they stand in files; rounded once, at the end."""
    average = Average(how, exclusive=exclusive)
    for levels, weight in zip(each, weights, strict=True):
        average.add(torch.from_numpy(levels / np.float32(255)), weight)
    return quantised(average.result())
