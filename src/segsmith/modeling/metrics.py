"""Counts of pixels per image -> scores. What an empty truth or an empty prediction scores is said for each metric.

mean_dice      mean over images of 2 tp / (predicted + truth); 1 when both are empty, 0 when one is
mean_iou       mean over images of tp / union; likewise
mean_iou_map   mean over images of the share of IoU thresholds 0.50, 0.55 .. 0.95 that its IoU exceeds; 1 when both are
               empty, 0 when one is (the TGS salt contest's metric)
global_dice    2 tp / (predicted + truth) over the pixels of all images together; 1 when all are empty
global_f1      the same number under its other name
global_iou     tp / union over all pixels together; 1 when all are empty
"""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from segsmith.recipe import Metric

METRICS: tuple[Metric, ...] = get_args(Metric)
LEVELS = 256

Numbers = Int[np.ndarray, "..."] | np.integer[Any]
"""Numpy makes a number of an array without axes."""


@dataclass(frozen=True)
class Counts:
    """Pixels of images: true positives, predicted foreground, true foreground. Arrays broadcast; the last axis is
    images."""

    tp: Numbers
    predicted: Numbers
    truth: Numbers


def count_levels(
    probabilities: UInt8[np.ndarray, "height width"], truth: Bool[np.ndarray, "height width"]
) -> tuple[Int[np.ndarray, " 256"], Int[np.ndarray, " 256"]]:
    """True positives and predicted pixels of one class when `probability >= level` is foreground, for each level
    0..255."""
    joint = np.bincount((probabilities.astype(np.uint16) + truth * np.uint16(LEVELS)).ravel(), minlength=2 * LEVELS)
    background, foreground = joint[:LEVELS], joint[LEVELS:]
    tp = foreground[::-1].cumsum()[::-1]
    return tp, tp + background[::-1].cumsum()[::-1]


def image_scores(metric: Metric, counts: Counts) -> Float[np.ndarray, "..."]:
    """The score of each image alone, shaped as the counts broadcast; a global metric is that of a set of one image."""
    tp, predicted, truth = np.broadcast_arrays(counts.tp, counts.predicted, counts.truth)
    union = predicted + truth - tp
    if metric in ("mean_dice", "global_dice", "global_f1"):
        return _ratio(2 * tp, predicted + truth)
    if metric in ("mean_iou", "global_iou"):
        return _ratio(tp, union)
    hits = sum(
        (20 * tp > step * union).astype(np.int64) for step in range(10, 20)
    )  # whole numbers: IoU > step / 20 exactly
    return np.where(union == 0, 1.0, np.asarray(hits) / 10)


def score(metric: Metric, counts: Counts) -> Float[np.ndarray, "..."]:
    """The score of all images together; leading axes (thresholds, areas, resamples) stay."""
    if not metric.startswith("global_"):
        return np.asarray(image_scores(metric, counts).mean(axis=-1))
    tp, predicted, truth = np.broadcast_arrays(counts.tp, counts.predicted, counts.truth)
    return image_scores(metric, Counts(tp.sum(-1), predicted.sum(-1), truth.sum(-1)))


class LevelScores:
    """Every metric at every one of 256 thresholds, one image after another, in memory that does not grow with their
    number."""

    def __init__(self) -> None:
        self._sums = {metric: np.zeros(LEVELS) for metric in METRICS}
        self._pixels = np.zeros((3, LEVELS), np.int64)
        self._dice = {True: np.zeros(LEVELS), False: np.zeros(LEVELS)}
        self._images = {True: 0, False: 0}

    def add(self, probabilities: UInt8[np.ndarray, "height width"], truth: Bool[np.ndarray, "height width"]) -> None:
        tp, predicted = count_levels(probabilities, truth)
        counts = Counts(tp, predicted, np.full(LEVELS, truth.sum()))
        for metric in METRICS:
            if not metric.startswith("global_"):
                self._sums[metric] += image_scores(metric, counts)
        self._pixels += np.stack([counts.tp, counts.predicted, counts.truth])
        has_foreground = bool(truth.any())
        self._dice[has_foreground] += image_scores("mean_dice", counts)
        self._images[has_foreground] += 1

    def scores(self, metric: Metric) -> Float[np.ndarray, " 256"]:
        """The metric over the images so far when `probability >= level` is foreground; level 0 makes all foreground."""
        if metric.startswith("global_"):
            return image_scores(metric, Counts(*self._pixels))
        return self._sums[metric] / max(1, sum(self._images.values()))

    def dice(self, *, foreground: bool) -> Float[np.ndarray, " 256"]:
        """Mean Dice of the images with, or without, foreground; NaN when there are none."""
        images = self._images[foreground]
        return self._dice[foreground] / images if images else np.full(LEVELS, np.nan)


def _ratio(over: Numbers, under: Numbers) -> Float[np.ndarray, "..."]:
    """over / under, and 1 where both are 0."""
    return np.where(under == 0, 1.0, over / np.maximum(under, 1))
