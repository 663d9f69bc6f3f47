"""Probabilities and true objects of an image -> `object_scores.f2_of_image` at every level and area at once."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from segsmith.decision.component_tree import component_tree
from segsmith.decision.masks import Labels, connected_objects
from segsmith.decision.object_scores import f2
from segsmith.decision.separation import Relief, separated
from segsmith.modeling.metrics import IOU_THRESHOLDS, thresholds_exceeded
from segsmith.types import ClassMask, ClassProbabilities

LEVELS_SEPARATED = np.arange(16, 256, 16)
"""At which objects are taken apart to be scored: each level has to be done by itself."""
NEAREST_SEPARATED = LEVELS_SEPARATED[np.abs(np.arange(256)[:, None] - LEVELS_SEPARATED).argmin(axis=1)]
"""Of each level, the one of these that stands for it."""


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


def separated_f2_scores(
    plane: ClassProbabilities,
    labels: Labels,
    areas: Int[np.ndarray, " areas"],
    relief: Callable[[ClassMask], Relief],
    depths: Sequence[int],
) -> Float[np.ndarray, "depths 256 areas"]:
    """Likewise for objects that are taken apart at each of `depths`, by the relief of their mask; what is connected is
    left out by its area before it is taken apart. Exact at LEVELS_SEPARATED, which stand for the levels next to them.
    """
    at_level = [_of_level(plane >= level, labels, areas, relief, depths) for level in LEVELS_SEPARATED.tolist()]
    return np.stack(at_level, axis=1)[:, np.searchsorted(LEVELS_SEPARATED, NEAREST_SEPARATED)]


def _of_level(
    mask: ClassMask,
    labels: Labels,
    areas: Int[np.ndarray, " areas"],
    relief: Callable[[ClassMask], Relief],
    depths: Sequence[int],
) -> Float[np.ndarray, "depths areas"]:
    numbers, compact = np.unique(np.append(labels, 0), return_inverse=True)  # 0 is there, and first
    compact = compact[:-1]
    whole = connected_objects(mask)
    area_of_whole = np.bincount(whole.ravel())[whole]
    scores = []
    for found in separated(relief(mask), depths):
        count = int(found.max(initial=0)) + 1
        shape = (count, len(numbers))
        shared = np.bincount(found.ravel() * len(numbers) + compact, minlength=count * len(numbers)).reshape(shape)
        union = shared.sum(axis=1)[1:, None] + shared.sum(axis=0)[None, 1:] - shared[1:, 1:]
        exceeded = thresholds_exceeded(shared[1:, 1:], union).max(axis=1, initial=0)
        was_part_of = np.zeros(count, np.int64)
        was_part_of[found.ravel()] = area_of_whole.ravel()
        kept = was_part_of[1:, None] >= areas
        right = np.stack([((exceeded > step)[:, None] & kept).sum(axis=0) for step in range(IOU_THRESHOLDS)])
        scores.append(f2(right, kept.sum(axis=0), len(numbers) - 1))
    return np.stack(scores)
