"""Probabilities and true objects of an image -> `object_scores.f2_of_image` at every level and area at once."""

import numpy as np
from jaxtyping import Float, Int

from segsmith.prediction.component_tree import component_tree
from segsmith.types import ClassProbabilities

STEPS = 10
"""IoU thresholds."""

Labels = Int[np.ndarray, "height width"]
"""The number of the true object a pixel belongs to, from 1; 0 for none."""


def f2_scores(
    plane: ClassProbabilities, labels: Labels, areas: Int[np.ndarray, " areas"]
) -> Float[np.ndarray, "256 areas"]:
    """The score of an image for each of 256 levels and smallest areas (ascending), exactly: an object of the tree can
    exceed an IoU of one half with one true object at the most, as neither share pixels."""
    tree = component_tree(plane)
    sizes = tree.sizes
    columns = np.searchsorted(areas, sizes, side="right")
    numbers = np.unique(labels[labels > 0])
    exceeded = np.zeros(len(sizes), np.int64)
    for number in numbers:
        true = labels == number
        exceeded += thresholds_exceeded(tree.hits(true), sizes, int(true.sum()))
    counted = [*((exceeded > step).astype(np.int64) for step in range(STEPS)), np.ones(len(sizes), np.int64)]
    tables = tree.by_level(columns, len(areas) + 1, *counted)[:, :, :0:-1].cumsum(axis=2)[:, :, ::-1]
    right, found = tables[:-1], tables[-1]
    found[0] = areas <= plane.size  # at level 0 all pixels are one object
    whole = np.array(
        [thresholds_exceeded(np.array(np.sum(labels == n)), plane.size, int(np.sum(labels == n))) for n in numbers]
    )
    right[:, 0] = (whole[:, None] > np.arange(STEPS)).sum(axis=0)[:, None] * found[0] if len(numbers) else 0
    return f2(right, found, len(numbers))


def thresholds_exceeded(
    hits: Int[np.ndarray, "..."], sizes: Int[np.ndarray, "..."] | int, true: Int[np.ndarray, "..."] | int
) -> Int[np.ndarray, "..."]:
    """How many of the ten thresholds the IoU exceeds, in whole numbers, which IoU = step / 20 needs."""
    union = np.maximum(sizes + true - hits, 1)
    return np.asarray(np.clip(-(-20 * hits // union) - 10, 0, STEPS))


def f2(right: Int[np.ndarray, "steps ..."], found: Int[np.ndarray, "..."], true: int) -> Float[np.ndarray, "..."]:
    """The mean over IoU thresholds, of right objects at each, objects found, and true ones."""
    counted = 4 * true + found  # 5 right + 4 (true - right) + (found - right)
    return np.asarray(np.where(counted == 0, 1.0, (5 * right / np.maximum(counted, 1)).mean(axis=0)))
