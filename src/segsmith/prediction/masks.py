"""Probabilities -> masks -> objects."""

import cv2
import numpy as np
from jaxtyping import Int

from segsmith.data import rle
from segsmith.modeling.objective import most_probable
from segsmith.types import ClassMask, ClassProbabilities, Mask, Probabilities, Runs

CONNECTIVITY = 8
"""Pixels that touch at a corner belong to one object."""


def decided(probabilities: Probabilities, level: int, smallest_area: int, *, exclusive: bool = False) -> Mask:
    """Foreground where `probability >= level` (of 0..255), without objects of fewer than `smallest_area` pixels.

    `exclusive` gives each pixel to one class at most: of those at or above the level to the most probable, of equal
    ones to the later, as in the truth. A pixel of an object that is too small is background then, not the next class.
    """
    if exclusive:
        probabilities = most_probable(probabilities)
    return np.stack([_without_small(plane >= level, smallest_area) for plane in probabilities])


def object_runs(mask: ClassMask) -> list[Runs]:
    """The run lengths of each object of a mask, in the order of their first pixels; no two share a pixel."""
    count, labels = cv2.connectedComponents(_bytes(mask), connectivity=CONNECTIVITY)
    found = [rle.encode(labels == label) for label in range(1, count)]
    return sorted(found, key=lambda runs: int(runs[0, 0]))  # OpenCV numbers objects by blocks of pixels


def count_areas(
    probabilities: ClassProbabilities,
    truth: ClassMask,
    levels: Int[np.ndarray, " levels"],
    areas: Int[np.ndarray, " areas"],
) -> tuple[Int[np.ndarray, "levels areas"], Int[np.ndarray, "levels areas"]]:
    """True positives and predicted pixels for every level (ascending) and smallest area together, exactly.

    Each level is labelled once; all areas follow from the sizes of its objects. Levels that no pixel lies between
    share one.
    """
    tp = np.zeros((len(levels), len(areas)), np.int64)
    predicted = np.zeros_like(tp)
    at_least = np.bincount(probabilities.ravel(), minlength=256)[::-1].cumsum()[::-1]
    for row, level in enumerate(levels):
        if at_least[level] == 0:
            break
        if row and at_least[level] == at_least[levels[row - 1]]:
            tp[row], predicted[row] = tp[row - 1], predicted[row - 1]
            continue
        count, labels, stats, _ = cv2.connectedComponentsWithStats(
            _bytes(probabilities >= level), connectivity=CONNECTIVITY
        )
        sizes = stats[1:, cv2.CC_STAT_AREA].astype(np.int64)
        hits = np.bincount(labels[truth], minlength=count)[1:]
        kept = sizes >= areas[:, None]
        tp[row], predicted[row] = kept @ hits, kept @ sizes
    return tp, predicted


def _without_small(mask: ClassMask, smallest_area: int) -> ClassMask:
    if smallest_area <= 1 or not mask.any():
        return mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(_bytes(mask), connectivity=CONNECTIVITY)
    kept = stats[:, cv2.CC_STAT_AREA] >= smallest_area
    kept[0] = False
    return np.asarray(kept[labels])


def _bytes(mask: ClassMask) -> np.ndarray:
    return np.ascontiguousarray(mask).view(np.uint8)
