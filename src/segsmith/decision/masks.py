"""Probabilities -> masks -> objects."""

import cv2
import numpy as np
from jaxtyping import Int, UInt8
from scipy.ndimage import binary_fill_holes

from segsmith.data import rle
from segsmith.decision.component_tree import component_tree
from segsmith.decision.gates import gate_values
from segsmith.losses.objective import most_probable
from segsmith.modeling.bundle import Cell, Decision
from segsmith.modeling.metrics import LEVELS
from segsmith.types import ClassMask, ClassProbabilities, Mask, Probabilities, Runs

Labels = Int[np.ndarray, "height width"]
"""The number of the object a pixel belongs to, from 1; 0 for none."""

CONNECTIVITY = 8
"""Pixels that touch at a corner belong to one object."""


def decided_by(
    decision: Decision,
    probabilities: Probabilities,
    *,
    exclusive: bool = False,
    part: int | None = None,
    presence: UInt8[np.ndarray, " classes"] | None = None,
) -> Mask:
    """The mask of an image by a decision, or by what was decided for one part of its cross-fit.

    `exclusive` gives each pixel to one class at most: to the most probable, of equal ones to the later, as in the
    truth, if that reaches the level of its class. A pixel of an object that is too small is background then, not the
    next class. `presence` is what a presence head says of each class, where the gate goes by that.
    """
    if exclusive:
        probabilities = most_probable(probabilities)
    cells = decision.cells_of(len(probabilities), part)
    values = gate_values(probabilities, decision.gate_by, decision.gate_pixels, presence)
    return np.stack(
        [
            decided(plane, cell, value, fill_holes=decision.fill_holes)
            for plane, cell, value in zip(probabilities, cells, values, strict=True)
        ]
    )


def decided(
    plane: ClassProbabilities, cell: Cell, gate_value: int = LEVELS - 1, *, fill_holes: bool = False
) -> ClassMask:
    """Nothing where the gate value is below the gate of the cell; else foreground where `probability >= level` (of
    0..255), with holes filled if asked for, without objects of fewer than `smallest_area` pixels."""
    if gate_value < cell.gate:
        return np.zeros(plane.shape, bool)
    mask = plane >= cell.level
    return _without_small(binary_fill_holes(mask) if fill_holes else mask, cell.smallest_area)


def connected_objects(mask: ClassMask) -> Labels:
    """The number of the object each pixel belongs to, from 1, in no order; 0 for none."""
    return np.asarray(cv2.connectedComponents(_bytes(mask), connectivity=CONNECTIVITY)[1])


def object_runs(mask: ClassMask) -> list[Runs]:
    """The run lengths of what is connected in a mask, in the order of their first pixels; no two share a pixel."""
    return label_runs(connected_objects(mask))


def label_runs(labels: Labels) -> list[Runs]:
    """The run lengths of each object, in the order of their first pixels; no two share a pixel."""
    found = [rle.encode(labels == label) for label in np.unique(labels[labels > 0])]
    return sorted(found, key=lambda runs: int(runs[0, 0]))  # OpenCV numbers objects by blocks of pixels


def count_areas(
    plane: ClassProbabilities, truth: ClassMask, areas: Int[np.ndarray, " areas"]
) -> tuple[Int[np.ndarray, "256 areas"], Int[np.ndarray, "256 areas"]]:
    """True positives and predicted pixels for each of 256 levels and smallest areas (ascending) together, exactly,
    without labelling any level."""
    tree = component_tree(plane)
    tp, predicted = tree.by_level_and_area(areas, tree.hits(truth), tree.sizes)
    large_enough = areas <= plane.size  # at level 0 all pixels are one object
    tp[0], predicted[0] = large_enough * truth.sum(), large_enough * plane.size
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
