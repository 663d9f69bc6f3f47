"""Probabilities and true objects of an image -> `object_scores.f2_of_image` at every level and area at once."""

import numpy as np
from jaxtyping import Float, Int

from segsmith.decision.component_tree import component_tree
from segsmith.decision.object_scores import f2
from segsmith.modeling.metrics import IOU_THRESHOLDS, thresholds_exceeded
from segsmith.types import ClassProbabilities

Labels = Int[np.ndarray, "height width"]
"""The number of the true object a pixel belongs to, from 1; 0 for none."""


def f2_scores(
    plane: ClassProbabilities, labels: Labels, areas: Int[np.ndarray, " areas"]
) -> Float[np.ndarray, "256 areas"]:
    """The score of an image for each of 256 levels and smallest areas (ascending), exactly: an object of the tree can
    exceed an IoU of one half with one true object at the most, as neither share pixels."""
    tree = component_tree(plane)
    sizes = tree.sizes
    numbers = np.unique(labels[labels > 0])
    exceeded = np.zeros(len(sizes), np.int64)
    for number in numbers:
        true = labels == number
        hits = tree.hits(true)
        exceeded += thresholds_exceeded(hits, sizes + true.sum() - hits)
    counted = [*((exceeded > step).astype(np.int64) for step in range(IOU_THRESHOLDS)), np.ones(len(sizes), np.int64)]
    *right_at, found = tree.by_level_and_area(areas, *counted)
    right = np.stack(right_at)
    found[0] = areas <= plane.size  # at level 0 all pixels are one object
    whole = thresholds_exceeded(np.bincount(labels.ravel())[numbers], np.array(plane.size))
    right[:, 0] = (whole[:, None] > np.arange(IOU_THRESHOLDS)).sum(axis=0)[:, None] * found[0]
    return f2(right, found, len(numbers))
