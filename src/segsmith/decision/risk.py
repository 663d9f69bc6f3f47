"""Probabilities and truth of images -> the threshold that misses no more than asked, on images not seen.

Conformal risk control (Angelopoulos, Bates, Fisch, Lei and Schuster 2022, arXiv 2208.02814): of n images that are as
good as drawn alike with those to come, take the highest level at which n / (n + 1) of the mean loss, plus 1 / (n + 1)
for the image to come, is not above the rate; then the mean loss to expect of a new image is not above it either,
whatever the network, the images and n. The loss is the share of an image's foreground pixels that is missed, which
never falls as the level rises. It is asked of images with foreground only, so it holds for these. Whoever skips an
image misses all of its foreground, so a limit below which images are skipped is found in the same way.
"""

from dataclasses import dataclass
from math import floor

import numpy as np
from jaxtyping import Float, Int

from segsmith.modeling.bundle import Dial
from segsmith.modeling.metrics import LEVELS, count_levels
from segsmith.types import ClassMask, ClassProbabilities


@dataclass(frozen=True)
class MissRates:
    """Sums over images of one class, by level 0..255; those of two sets of images add up."""

    missed: Float[np.ndarray, " 256"]
    """The share of the foreground that is missed, summed over images with foreground."""
    filled: int
    """Images with foreground."""
    alarms: Int[np.ndarray, " 256"]
    """Images without in which anything is predicted."""
    empty: int
    """Images without."""
    wrong: Int[np.ndarray, " 256"]
    """Pixels predicted that are background, of all images."""
    predicted: Int[np.ndarray, " 256"]
    """Pixels predicted, of all images."""

    def __add__(self, other: "MissRates") -> "MissRates":
        return MissRates(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @staticmethod
    def of_none() -> "MissRates":
        nothing = np.zeros(LEVELS, np.int64)
        return MissRates(np.zeros(LEVELS), 0, nothing, 0, nothing, nothing)

    @staticmethod
    def of_image(plane: ClassProbabilities, truth: ClassMask) -> "MissRates":
        tp, predicted = count_levels(plane, truth)
        true, wrong = int(tp[0]), predicted - tp
        if true:
            return MissRates(1 - tp / true, 1, np.zeros(LEVELS, np.int64), 0, wrong, predicted)
        return MissRates(np.zeros(LEVELS), 0, (predicted > 0).astype(np.int64), 1, wrong, predicted)


def dial(rates: MissRates, miss_rate: float) -> tuple[int, Dial]:
    """The highest level whose miss rate is sure to be `miss_rate` at the most, which lies between 0 and 1, and what it
    costs; level 0, which misses nothing, where too few images have foreground to promise more."""
    sure = (rates.missed + 1) / (rates.filled + 1) <= miss_rate + 1e-12
    level = int(np.flatnonzero(sure).max(initial=0))
    return level, Dial(
        miss_rate=miss_rate,
        images=rates.filled,
        missed=_share(float(rates.missed[level]), rates.filled),
        false_alarms=_share(float(rates.alarms[level]), rates.empty),
        wrong_pixels=_share(float(rates.wrong[level]), int(rates.predicted[level])),
    )


def skipped_below(values: Float[np.ndarray, " filled"], loss: float) -> float:
    """The highest limit under which the share of images with foreground that lie below it is sure to be `loss` at the
    most, from 0 to below 1, judging by the values of some; 0 where these are too few to promise more."""
    may_be_lost = floor(loss * (len(values) + 1) + 1e-9) - 1
    return float(np.sort(values)[may_be_lost]) if may_be_lost >= 0 else 0.0


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
