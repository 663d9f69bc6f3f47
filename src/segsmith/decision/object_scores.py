"""Predicted and true objects of an image -> how well they match."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from segsmith.decision.masks import Labels
from segsmith.modeling.metrics import IOU_THRESHOLDS, thresholds_exceeded
from segsmith.types import HW, Runs


def f2_of_image(predicted: Sequence[Runs], truth: Sequence[Runs], hw: HW) -> float:
    """F2 over IoU thresholds 0.50, 0.55 .. 0.95, the mean (the Airbus ship contest's score of an image).

    A pair of a predicted and a true object is a hit where its IoU exceeds the threshold; F2 = 5 hits / (5 hits +
    4 missed + false). 1 where there are no objects at all, 0 where only one side has some. Objects of one side must not
    share pixels; then no object is in two hits, and no matching is to be searched for.
    """
    if not predicted and not truth:
        return 1.0
    if not predicted or not truth:
        return 0.0
    of_prediction, of_truth = _painted(predicted, hw), _painted(truth, hw)
    shape = (len(predicted) + 1, len(truth) + 1)
    shared = np.bincount(of_prediction * shape[1] + of_truth, minlength=shape[0] * shape[1]).reshape(shape)
    union = shared.sum(axis=1)[1:, None] + shared.sum(axis=0)[None, 1:] - shared[1:, 1:]
    exceeded = thresholds_exceeded(shared[1:, 1:], union)[None] > np.arange(IOU_THRESHOLDS)[:, None, None]
    return float(f2(exceeded.sum(axis=(1, 2)), np.array(len(predicted)), len(truth)))


def f2(right: Int[np.ndarray, "thresholds ..."], found: Int[np.ndarray, "..."], true: int) -> Float[np.ndarray, "..."]:
    """The mean over IoU thresholds, of right objects at each, objects found, and true ones."""
    counted = 4 * true + found  # 5 right + 4 (true - right) + (found - right)
    return np.asarray(np.where(counted == 0, 1.0, (5 * right / np.maximum(counted, 1)).mean(axis=0)))


def best_overlaps(one: Labels, other: Labels) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Of each object of either side, in the order of their numbers, its pixels and the highest IoU that it has with an
    object of the other side; 0 where it meets none. Numbers without a pixel are left out."""
    areas = np.bincount(one.ravel()), np.bincount(other.ravel())
    both = (one > 0) & (other > 0)
    pairs, shared = np.unique(np.stack([one[both], other[both]]), axis=1, return_counts=True)
    iou = shared / (areas[0][pairs[0]] + areas[1][pairs[1]] - shared)
    sides = []
    for of_side, numbers in zip(areas, pairs, strict=True):
        best = np.zeros(len(of_side))
        np.maximum.at(best, numbers, iou)
        sides.append([(int(of_side[n]), float(best[n])) for n in range(1, len(of_side)) if of_side[n]])
    return sides[0], sides[1]


def _painted(objects: Sequence[Runs], hw: HW) -> np.ndarray:
    """The number of the object at each pixel, down the columns, 0 for none."""
    numbers = np.zeros(hw[0] * hw[1], np.int64)
    for number, runs in enumerate(objects, start=1):
        for start, length in runs.tolist():
            numbers[start : start + length] = number
    return numbers
