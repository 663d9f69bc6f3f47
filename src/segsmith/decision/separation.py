"""A mask -> its objects, with those that touch taken apart: a watershed on a relief, whose shallow basins are one.

The relief is high within objects and low between them. Two of its peaks are two objects where the way from one to the
other leads far enough down: `depth` levels below both, the dynamics of Grimaud (1992), read off the component tree.
From such peaks the objects are flooded (Meyer 1994), so that they meet in the valleys; every pixel of the mask belongs
to one.
"""

import heapq
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from segsmith.decision.component_tree import ComponentTree, component_tree
from segsmith.decision.masks import Labels, connected_objects
from segsmith.modeling.bundle import Decision
from segsmith.recipe import Separate
from segsmith.types import ClassMask, ClassProbabilities, Mask

Relief = UInt8[np.ndarray, "height width"]
"""1..255 in a mask, 0 beside it."""

OCTAVE = 25
"""Levels by which the relief of distances rises where an object is twice as wide: 8 are a neck of four fifths."""
DEPTHS = {"distance": (6, 12, 20), "border": (4, 8, 16, 32, 64)}
"""What is tried for each way of separating, in levels of its relief."""


def objects_by(
    decision: Decision,
    mask: Mask,
    planes: UInt8[np.ndarray, "planes height width"],
    *,
    part: int | None = None,
) -> list[Labels]:
    """The objects of each class of a mask that `masks.decided_by` made of these planes (of the bundle: classes, and
    borders behind them) by the same decision, or by what was decided for one part of its cross-fit."""
    found = []
    for number, (of_class, cell) in enumerate(zip(mask, decision.cells_of(len(mask), part), strict=True)):
        if cell.depth and of_class.any():
            relief = relief_of(decision.separate_by, of_class, number, planes)
            found += separated(relief, [cell.depth])
        else:
            found.append(connected_objects(of_class))
    return found


def relief_of(
    separate_by: Separate, mask: ClassMask, number: int, planes: UInt8[np.ndarray, "planes height width"]
) -> Relief:
    """The relief by which objects of the class of this number are told apart in its mask."""
    if separate_by == "distance":
        return distance_relief(mask)
    return border_relief(mask, planes[number], planes[len(planes) // 2 + number])


def distance_relief(mask: ClassMask) -> Relief:
    """How far each pixel is from the nearest outside its object, in a logarithm, so that a neck counts by its share of
    the width beside it: OCTAVE levels for twice as far. The edge of the image is no outline."""
    padded = cv2.copyMakeBorder(mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # a pixel's neighbours are of its own object, so what is smoothed of one does not depend on the others
    smooth = cv2.GaussianBlur(distance, (3, 3), 0)[1:-1, 1:-1]
    levels = np.rint(1 + OCTAVE * np.log2(np.maximum(1, 2 * smooth)))
    return np.asarray(np.where(mask, np.minimum(255, levels), 0).astype(np.uint8))


def border_relief(mask: ClassMask, plane: ClassProbabilities, border: ClassProbabilities) -> Relief:
    """The probability of the class and no border, as levels; 1 at least."""
    inside = plane.astype(np.int32) * (255 - border.astype(np.int32)) // 255
    return np.asarray(np.where(mask, np.maximum(1, inside), 0).astype(np.uint8))


def separated(relief: Relief, depths: Sequence[int]) -> list[Labels]:
    """For each depth (1..254) the objects of the mask where the relief is above 0, numbered from 1.

    They share no pixel, leave none out, and each hangs together (at corners too). What is not connected is never one
    object, and a part of the mask that has but one peak of that depth, or none, is one.
    """
    whole = connected_objects(relief > 0)
    if not whole.any():
        return [whole for _ in depths]
    tree = component_tree(relief)
    return [_flooded(relief, whole, _peaks(tree, depth, relief.shape)) for depth in depths]


def _peaks(tree: ComponentTree, depth: int, hw: tuple[int, ...]) -> Labels:
    """The smallest objects of a tree that reach `depth` levels down from their highest pixel, numbered."""
    nodes = np.arange(len(tree.level))
    ranges = np.stack([nodes, tree.end], axis=1).ravel()
    highest = np.maximum.reduceat(np.append(tree.level, 0), ranges)[::2]
    deep = highest - tree.below > depth
    before = np.concatenate([[0], deep.cumsum()])
    smallest = deep & (before[tree.end] - before[:-1] == 1)  # none of its descendants is as deep
    number = np.zeros(len(nodes), np.int32)
    for count, node in enumerate(np.flatnonzero(smallest).tolist(), start=1):
        number[node : tree.end[node]] = count
    peaks = np.zeros(int(np.prod(hw)), np.int32)
    peaks[tree.pixels] = number[tree.node]
    return np.asarray(peaks.reshape(hw))


def _flooded(relief: Relief, whole: Labels, peaks: Labels) -> Labels:
    """The connected objects `whole`, those with several peaks flooded from these, from high to low."""
    pairs = np.unique(np.stack([whole[peaks > 0], peaks[peaks > 0]]), axis=1)
    several = np.bincount(pairs[0], minlength=int(whole.max()) + 1) > 1
    if not several.any():
        return whole
    joined = several[whole]
    labels = np.where(joined, peaks, 0)
    labels[labels > 0] += whole.max()
    left, top, width, height = cv2.boundingRect(joined.view(np.uint8))
    box = slice(top, top + height), slice(left, left + width)
    labels[box] = _watershed(relief[box], labels[box], joined[box])
    labels = np.where(joined, labels, whole)
    return np.asarray((np.searchsorted(np.unique(labels[labels > 0]), labels) + (labels > 0)).astype(np.int32))


def _watershed(relief: Relief, labels: Labels, mask: ClassMask) -> Labels:
    """Labels grown into the rest of the mask, over its highest pixels first, of equal ones over those reached first."""
    width = relief.shape[1] + 2
    steps = (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1)
    depth = (-np.pad(relief.astype(int), 1)).ravel().tolist()
    label = np.pad(labels, 1).ravel().tolist()
    free = np.pad(mask & (labels == 0), 1)
    at_edge = cv2.dilate(free.view(np.uint8), np.ones((3, 3), np.uint8)).ravel().astype(bool) & ~free.ravel()
    waiting = free.ravel().tolist()
    heap = [(depth[at], age, at) for age, at in enumerate(np.flatnonzero(at_edge).tolist()) if label[at]]
    heapq.heapify(heap)
    age = len(label)
    while heap:
        _, _, at = heapq.heappop(heap)
        for step in steps:
            beside = at + step
            if waiting[beside]:
                waiting[beside] = False
                label[beside] = label[at]
                heapq.heappush(heap, (depth[beside], age, beside))
                age += 1
    return np.array(label, np.int32).reshape(-1, width)[1:-1, 1:-1]
