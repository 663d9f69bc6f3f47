"""Probabilities and truth of many pixels -> how far they can be believed, and the temperature that mends them.

Temperature scaling (Guo, Pleiss, Sun and Weinberger 2017, arXiv 1706.04599) divides logits by one number, so that the
order of pixels stays: no decision changes, but a probability of 0.8 then means that four of five such pixels are
foreground. It is for whoever reads probabilities: files of them, thresholds of several models side by side.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

LEVELS = 256
BINS = 15
"""Of equal width, as in the paper."""
HOTTEST = 100.0


@dataclass(frozen=True)
class Calibration:
    """Pixels of each level 0..255 that are background (row 0) and foreground (row 1): all that the rest is made of, for
    any number of images."""

    pixels: Int[np.ndarray, "2 256"]

    @staticmethod
    def of_no_pixel() -> "Calibration":
        return Calibration(np.zeros((2, LEVELS), np.int64))

    def with_pixels(self, levels: UInt8[np.ndarray, " pixels"], truth: Bool[np.ndarray, " pixels"]) -> "Calibration":
        """These pixels added."""
        joint = np.bincount(levels + truth * np.uint16(LEVELS), minlength=2 * LEVELS)
        return Calibration(self.pixels + joint.reshape(2, LEVELS))

    def temperature(self) -> float:
        """The one of least negative log-likelihood, 0.01 to 100; 1 where no pixel is foreground, or all are."""
        if not self.pixels.sum(axis=1).all():
            return 1.0
        edge = np.log(HOTTEST)
        found = minimize_scalar(lambda log: self.loss(float(np.exp(log))), bounds=(-edge, edge), method="bounded")
        return float(np.exp(found.x))

    def loss(self, temperature: float = 1.0) -> float:
        """The mean negative log-likelihood of a pixel."""
        scaled = _logits() / temperature
        background, foreground = self.pixels
        total = background @ np.logaddexp(0, scaled) + foreground @ np.logaddexp(0, -scaled)
        return float(total / max(1, self.pixels.sum()))

    def bins(self, temperature: float = 1.0) -> Float[np.ndarray, "bins 3"]:
        """Of each bin that holds a pixel: mean probability, share of foreground, share of all pixels."""
        probability = expit(_logits() / temperature)
        number = np.minimum((probability * BINS).astype(int), BINS - 1)
        count = self.pixels.sum(axis=0)
        pixels = np.bincount(number, count, minlength=BINS)
        held = pixels > 0
        mean = np.bincount(number, count * probability, minlength=BINS)[held] / pixels[held]
        share = np.bincount(number, self.pixels[1], minlength=BINS)[held] / pixels[held]
        return np.asarray(np.stack([mean, share, pixels[held] / max(1, count.sum())], axis=1))

    def error(self, temperature: float = 1.0) -> float:
        """The expected calibration error: the mean difference of probability and share of foreground, over pixels."""
        mean, share, weight = self.bins(temperature).T
        return float(weight @ np.abs(mean - share))

    def plain(self) -> dict[str, Any]:
        """Temperature, errors before and after, and the pixels by level, for a file."""
        temperature = self.temperature()
        return {
            "temperature": temperature,
            "expected_calibration_error": {"before": self.error(), "after": self.error(temperature)},
            "negative_log_likelihood": {"before": self.loss(), "after": self.loss(temperature)},
            "pixels": self.pixels.tolist(),
        }

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> "Calibration":
        return Calibration(np.array(plain["pixels"], np.int64))


def calibrated_levels(temperature: float) -> UInt8[np.ndarray, " 256"]:
    """Of each level 0..255 the level of its calibrated probability; never falls, though neighbours may come to share
    one."""
    return np.asarray(np.rint(expit(_logits() / temperature) * (LEVELS - 1)).astype(np.uint8))


def _logits() -> Float[np.ndarray, " 256"]:
    """Of the probabilities that levels stand for; 0 and 1 are of all that is rounded to them, so half a level away."""
    probabilities = np.arange(LEVELS) / (LEVELS - 1)
    half = 0.5 / (LEVELS - 1)
    return np.asarray(logit(np.clip(probabilities, half, 1 - half)))
