"""Counts of pixels per image -> scores. What an empty truth or an empty prediction scores is said for each figure.

mean_dice         mean over images of 2 tp / (predicted + truth); 1 when both are empty, 0 when one is
mean_iou          mean over images of tp / union; likewise
mean_iou_map      mean over images of the share of IoU thresholds 0.50, 0.55 .. 0.95 that its IoU exceeds; 1 when both
                  are empty, 0 when one is (the TGS salt contest's metric)
global_dice       2 tp / (predicted + truth) over the pixels of all images together; 1 when all are empty
global_f1         the same number under its other name
global_iou        tp / union over all pixels together; 1 when all are empty
global_accuracy   share of all usable pixels that are right, background among them; what is rare hardly moves it
global_precision  tp / predicted over all pixels together; where nothing is predicted 1 if nothing is true, else 0
global_recall     tp / truth over all pixels together; where nothing is true 1 if nothing is predicted, else 0

The last two are told and not chosen by: alone, precision is best of a single pixel, and recall of all.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Num, UInt8

from segsmith.recipe import Metric

METRICS: tuple[Metric, ...] = get_args(Metric)
"""What an epoch or a decision can be chosen by."""
Figure = Metric | Literal["global_precision", "global_recall"]
FIGURES: tuple[Figure, ...] = (*METRICS, "global_precision", "global_recall")
"""What is told: the metrics, and what can only be told."""
MEANS: tuple[Metric, ...] = ("mean_dice", "mean_iou", "mean_iou_map")
LEVELS = 256
IOU_THRESHOLDS = 10
"""0.50, 0.55 .. 0.95."""

Numbers = Num[np.ndarray, "..."] | np.number[Any]
"""Whole, or weighted sums where images weigh differently. Numpy makes a number of an array without axes."""


@dataclass(frozen=True)
class Counts:
    """Pixels of images: true positives, predicted foreground, true foreground, and all that are usable. Arrays
    broadcast; the last axis is images."""

    tp: Numbers
    predicted: Numbers
    truth: Numbers
    pixels: Numbers

    @property
    def together(self) -> "Counts":
        """Those of all images as if they were one; without the last axis."""
        tp, predicted, truth, pixels = np.broadcast_arrays(self.tp, self.predicted, self.truth, self.pixels)
        return Counts(tp.sum(-1), predicted.sum(-1), truth.sum(-1), pixels.sum(-1))


def count_levels(
    probabilities: UInt8[np.ndarray, "height width"], truth: Bool[np.ndarray, "height width"]
) -> tuple[Int[np.ndarray, " 256"], Int[np.ndarray, " 256"]]:
    """True positives and predicted pixels of one class when `probability >= level` is foreground, for each level
    0..255."""
    joint = np.bincount((probabilities.astype(np.uint16) + truth * np.uint16(LEVELS)).ravel(), minlength=2 * LEVELS)
    background, foreground = joint[:LEVELS], joint[LEVELS:]
    tp = foreground[::-1].cumsum()[::-1]
    return tp, tp + background[::-1].cumsum()[::-1]


def level_counts(
    probabilities: UInt8[np.ndarray, "height width"],
    truth: Bool[np.ndarray, "height width"],
    valid: Bool[np.ndarray, "height width"] | None = None,
) -> Counts:
    """One class of an image at each level 0..255. Pixels that are not `valid` count for nothing; None takes all."""
    if valid is not None and not valid.all():
        probabilities, truth = probabilities[valid][None], truth[valid][None]
    tp, predicted = count_levels(probabilities, truth)
    return Counts(tp, predicted, np.array(int(tp[0])), np.array(truth.size))


def image_scores(figure: Figure, counts: Counts) -> Float[np.ndarray, "..."]:
    """The score of each image alone, shaped as the counts broadcast; a global figure is that of a set of one image."""
    tp, predicted, truth, pixels = np.broadcast_arrays(counts.tp, counts.predicted, counts.truth, counts.pixels)
    union = predicted + truth - tp
    match figure:
        case "mean_dice" | "global_dice" | "global_f1":
            return _ratio(2 * tp, predicted + truth)
        case "mean_iou" | "global_iou":
            return _ratio(tp, union)
        case "mean_iou_map":
            return np.where(union == 0, 1.0, thresholds_exceeded(tp, union) / IOU_THRESHOLDS)
        case "global_accuracy":
            return _ratio(pixels - union + tp, pixels)
        case "global_precision":
            return np.where(predicted == 0, 1.0 * (truth == 0), _ratio(tp, predicted))
        case "global_recall":
            return np.where(truth == 0, 1.0 * (predicted == 0), _ratio(tp, truth))


def thresholds_exceeded(tp: Numbers, union: Numbers) -> Num[np.ndarray, "..."]:
    """How many of the IoU thresholds tp / union exceeds; in whole numbers, which IoU = step / 20 needs."""
    return np.asarray(np.clip(-(-20 * tp // np.maximum(union, 1)) - 10, 0, IOU_THRESHOLDS))


def score(figure: Figure, counts: Counts) -> Float[np.ndarray, "..."]:
    """The score of all images together; leading axes (thresholds, areas, resamples) stay."""
    if figure.startswith("global_"):
        return image_scores(figure, counts.together)
    return np.asarray(image_scores(figure, counts).mean(axis=-1))


class LevelScores:
    """Every figure at every one of 256 thresholds, one class of one image after another, in memory that does not grow
    with their number.

    A mean is over images and classes: each class of each image counts once.
    """

    def __init__(self, classes: int = 1) -> None:
        self._sums: dict[Figure, Float[np.ndarray, " 256"]] = {metric: np.zeros(LEVELS) for metric in MEANS}
        self._pixels = np.zeros((4, LEVELS), np.int64)
        self._dice = np.zeros((classes, 2, LEVELS))
        self._images = np.zeros((classes, 2), np.int64)

    def add(self, counts: Counts, *, of_class: int = 0) -> None:
        """Take in one class of an image, counted at every level (`level_counts`)."""
        filled = int(counts.tp[0] > 0)  # type: ignore[index]
        scores = {metric: image_scores(metric, counts) for metric in MEANS}
        for metric, of_image in scores.items():
            self._sums[metric] += of_image
        self._pixels += np.stack(np.broadcast_arrays(counts.tp, counts.predicted, counts.truth, counts.pixels))
        self._dice[of_class, filled] += scores["mean_dice"]
        self._images[of_class, filled] += 1

    def scores(self, figure: Figure) -> Float[np.ndarray, " 256"]:
        """The figure over the images so far when `probability >= level` is foreground; level 0 makes all foreground."""
        if figure in self._sums:
            return np.asarray(self._sums[figure] / max(1, self._images.sum()))
        return image_scores(figure, Counts(*self._pixels))

    def dice(self, *, foreground: bool | None = None, of_class: int | None = None) -> Float[np.ndarray, " 256"]:
        """Mean Dice of the images with, or without, foreground of a class; of all images, over all classes for None.
        NaN when there are none.

        Without foreground (the steel contest's dice_neg) an image scores 1 where nothing is predicted and 0 where
        anything is; with it (dice_pos), 0 where nothing is predicted. Whether an image is empty is asked for each class
        by itself.
        """
        classes = slice(None) if of_class is None else slice(of_class, of_class + 1)
        filled = slice(None) if foreground is None else slice(int(foreground), int(foreground) + 1)
        images = self._images[classes, filled].sum()
        return self._dice[classes, filled].sum((0, 1)) / images if images else np.full(LEVELS, np.nan)


def _ratio(over: Numbers, under: Numbers) -> Float[np.ndarray, "..."]:
    """over / under, and 1 where both are 0."""
    return np.where(under == 0, 1.0, over / np.maximum(under, 1))
