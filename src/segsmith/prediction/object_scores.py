"""Objects of a class, true and predicted -> f2_objects, the metric of the Airbus ships contest.

At an IoU threshold of 0.50, 0.55 .. 0.95 a predicted object is right if its IoU with a true one exceeds it, which can
hold of one pair at most, since the objects of a mask share no pixel. F2 is 5 tp / (5 tp + 4 missed + wrong); an image
scores its mean over the ten thresholds, 1 if it has no object and none is predicted, 0 if only one of these holds.
"""

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
    """The score of an image for each of 256 levels and smallest areas (ascending), exactly."""
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


def f2_of_labels(predicted: Labels, labels: Labels) -> float:
    """The score of one image whose predicted objects are numbered too."""
    sizes, true = np.bincount(predicted.ravel()), np.bincount(labels.ravel())
    joint = np.bincount((labels.astype(np.int64) * len(sizes) + predicted).ravel(), minlength=len(sizes) * len(true))
    hits = joint.reshape(len(true), len(sizes))[1:, 1:]
    exceeded = thresholds_exceeded(hits, sizes[1:], true[1:, None])
    right = (exceeded[None] > np.arange(STEPS)[:, None, None]).sum(axis=(1, 2))
    return float(f2(right, np.array(np.count_nonzero(sizes[1:])), int(np.count_nonzero(true[1:]))))


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
